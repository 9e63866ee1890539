"""`sandboxd folder`: virtual folders, which keep files such as caches between sessions."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from ..errors import ConfigError, Refused
from .connection.client import Client
from .connection.daemon_socket import running_daemon
from .connection.references import folder_path, remote
from .reporter import Reporter, printable
from .transfer.acceptance import is_version_control
from .transfer.exclusion import exclusion
from .transfer.local_tree import LocalTree
from .transfer.long_listing import print_listing
from .transfer.results import check_destination

CHUNK = 1 << 20
UPLOAD, DOWNLOAD = "/folders/_/tus/upload", "/folders/_/download"


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


# -- copies


def _copy(client: Client, args: argparse.Namespace) -> None:
    source, destination = remote(args.source), remote(args.destination)
    if bool(source) == bool(destination):
        raise ConfigError(
            "one of both names must be NAME:PATH; a local name with a colon begins with ./"
        )
    if source:
        _fetch(client, *source, args.destination)
    elif destination:
        _send(client, args.source, *destination)


def _send(client: Client, source: str, name: str, path: str) -> None:
    base = os.path.basename(os.path.abspath(source))
    if not path.strip("/") or path.endswith("/") or _listed(client, name, path) is not None:
        path = f"{path.strip('/')}/{base}".lstrip("/")
    if not os.path.isdir(source):
        _send_file(client, source, name, path)
        return
    say = Reporter(quiet=False, as_json=False)
    with LocalTree(source, exclusion([], [], with_vcs=True), say) as tree:
        _make_directory(client, name, path)
        for entry in tree.entries():
            there = f"{path}/{entry.name}"
            if entry.is_file:
                _send_file(client, os.path.join(source, entry.name), name, there)
            elif entry.target:
                say.warning(f"{tree.shown(entry.name)} is a link; left out")
            else:
                _make_directory(client, name, there)


def _make_directory(client: Client, name: str, path: str) -> None:
    body = {"path": path, "parents": True, "exist_ok": True}
    client.call("POST", f"{folder_path(name)}/mkdir", body)


def _send_file(client: Client, source: str, name: str, path: str) -> None:
    try:
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            body = {"path": path, "size": size}
            token = client.call("POST", f"{folder_path(name)}/request-upload", body)["token"]
            if size:
                headers = {
                    "Tus-Resumable": "1.0.0",
                    "Upload-Offset": "0",
                    "Content-Type": "application/offset+octet-stream",
                }
                content = iter(lambda: file.read(CHUNK), b"")
                path = f"{UPLOAD}?token={quote(token, safe='')}"
                client.call("PATCH", path, content=content, headers=headers)
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}") from None


def _fetch(client: Client, name: str, path: str, destination: str) -> None:
    base = os.path.basename(path.rstrip("/")) or name
    if os.path.isdir(destination):
        destination = os.path.join(destination, base)
    check_destination(destination)
    entries = _listed(client, name, path or ".")
    if entries is None:
        _fetch_file(client, name, path, destination)
    else:
        _fetch_directory(client, name, path, destination, entries)


def _fetch_directory(
    client: Client, name: str, path: str, destination: str, entries: list[dict[str, Any]]
) -> None:
    try:
        os.makedirs(destination, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{destination}: {error.strerror}; name another place") from None
    for entry in entries:
        child = f"{path}/{entry['name']}".lstrip("/")
        local = os.path.join(destination, os.path.basename(entry["name"]))
        if is_version_control(os.path.basename(local)):
            print(f"sandboxd: {printable(child)} belongs to version control; left out")
            continue
        if os.path.islink(local):
            raise ConfigError(f"{local} is a link; remove it first")
        if entry["type"] == "FILE":
            _fetch_file(client, name, child, local)
        elif entry["type"] == "DIRECTORY":
            _fetch_directory(client, name, child, local, _listed(client, name, child) or [])
        else:
            print(f"sandboxd: {printable(child)} is no file or directory; left out")


def _fetch_file(client: Client, name: str, path: str, destination: str) -> None:
    token = client.call("POST", f"{folder_path(name)}/request-download", {"path": path})["token"]
    parent = os.path.dirname(os.path.abspath(destination))
    with tempfile.NamedTemporaryFile(dir=parent, prefix=".sandboxd-", delete=False) as file:
        try:
            with client.chunks(f"{DOWNLOAD}?token={quote(token, safe='')}") as chunks:
                for chunk in chunks:
                    file.write(chunk)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, destination)
        except BaseException:  # an interrupt, too, leaves no part of a file
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.name)
            raise


def _listed(client: Client, name: str, path: str) -> list[dict[str, Any]] | None:
    """The entries of a directory; None: it is none."""
    try:
        answer = client.call("GET", f"{folder_path(name)}/files", params={"path": path})
    except Refused:
        client.call("GET", folder_path(name))  # raises if there is no such folder
        return None
    items: list[dict[str, Any]] = answer["items"]
    return items


_ACTIONS: dict[str, Callable[[Client, argparse.Namespace], None]] = {
    "create": _create,
    "ls": _list,
    "info": _info,
    "cp": _copy,
    "rm": _remove,
}
