"""`sandboxd folder`: virtual folders, which keep files such as caches between sessions."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable

from ..errors import ConfigError
from .connection.client import Client
from .connection.daemon_socket import running_daemon
from .connection.references import folder_path, remote
from .reporter import Reporter
from .transfer.folder_copy import FolderCopy
from .transfer.long_listing import print_listing


def main(args: argparse.Namespace) -> int:
    """Carry out one action."""
    with contextlib.closing(running_daemon(args.socket)) as client:
        _ACTIONS[args.action](client, args)
    return 0


def _create(client: Client, args: argparse.Namespace) -> None:
    facts = client.call("POST", "/folders", {"name": args.name, "quota": args.size})
    if args.json:
        print(json.dumps(facts, indent=2))
    elif facts.get("clamped"):
        print(f"{args.name}: the size was lowered to {facts['max_size']} bytes")


def _list(client: Client, args: argparse.Namespace) -> None:
    if args.name:
        name, path = remote(args.name) or (args.name, ".")
        answer = client.call("GET", f"{folder_path(name)}/files", params={"path": path or "."})
        print_listing(json.loads(answer["files"]), args.json)
        return
    folders = client.call("GET", "/folders")
    if args.json:
        print(json.dumps(folders, indent=2))
        return
    for facts in folders:
        print(f"{facts['name']}  {facts['permission']}  {facts['max_size']:,} bytes")


def _info(client: Client, args: argparse.Namespace) -> None:
    facts = client.call("GET", folder_path(args.name))
    if args.json:
        print(json.dumps(facts, indent=2))
        return
    print(f"name      {facts['name']}")
    print(f"id        {facts['id']}")
    print(f"size      {facts['max_size']:,} bytes")
    print(f"used      {facts['used_bytes']:,} bytes, {facts['numFiles']:,} files")
    print(f"access    {facts['permission']}")
    print(f"sessions  {', '.join(facts['sessions']) or 'none'}")


def _remove(client: Client, args: argparse.Namespace) -> None:
    for text in args.names:
        named = remote(text)
        if named and named[1].strip("/"):
            body = {"files": [named[1]], "recursive": True}
            client.call("POST", f"{folder_path(named[0])}/delete-files", body)
        elif named:
            raise ConfigError(f"{text}: write {named[0]} for the whole folder, or {named[0]}:PATH")
        else:
            client.call("DELETE", folder_path(text))


def _copy(client: Client, args: argparse.Namespace) -> None:
    source, destination = remote(args.source), remote(args.destination)
    if bool(source) == bool(destination):
        raise ConfigError(
            "one of both names must be NAME:PATH; a local name with a colon begins with ./"
        )
    name, path = source or destination or ("", "")
    copy = FolderCopy(client, name, Reporter(quiet=False, as_json=False), args.include_vcs)
    if source:
        copy.fetch(path, args.destination)
    else:
        copy.send(args.source, path)


_ACTIONS: dict[str, Callable[[Client, argparse.Namespace], None]] = {
    "create": _create,
    "ls": _list,
    "info": _info,
    "cp": _copy,
    "rm": _remove,
}
