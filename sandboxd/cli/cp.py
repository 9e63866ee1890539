"""`sandboxd cp`: copies a file or a directory into a session, or out of it, as `cp -r` does."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from ..errors import ConfigError, Refused
from .connection.client import Client
from .connection.daemon_socket import running_daemon
from .connection.holder import hold_named
from .connection.references import remote, session_path
from .main import FAULT
from .reporter import Reporter
from .transfer.exclusion import exclusion
from .transfer.local_tree import LocalTree
from .transfer.results import check_destination, fetch
from .transfer.tree_upload import upload

MISSING = 1
"""Exit status when the session has no such file."""


def main(args: argparse.Namespace) -> int:
    """Copy; 0 when everything is there."""
    source, destination = remote(args.source), remote(args.destination)
    if bool(source) == bool(destination):
        raise ConfigError(
            "one of both names must be SESSION:PATH; a local name with a colon begins with ./"
        )
    say = Reporter(args.quiet, as_json=False)
    with contextlib.closing(running_daemon(args.socket)) as client:
        if source:
            return _fetch(client, *source, args.destination, say)
        assert destination
        _send(client, args.source, *destination, say)
    return 0


def _fetch(client: Client, ref: str, path: str, destination: str, say: Reporter) -> int:
    session = hold_named(client, ref)
    if os.path.isdir(destination):
        outcome = fetch(client, session, [path or "."], destination, say)
    else:
        check_destination(destination)
        parent = os.path.dirname(os.path.abspath(destination))
        with tempfile.TemporaryDirectory(prefix=".sandboxd-", dir=parent) as place:
            outcome = fetch(client, session, [path or "."], place, Reporter(True, False))
            names = os.listdir(place)
            if len(names) == 1 and path.strip("./"):
                _rename(os.path.join(place, names[0]), destination)
            elif not (outcome.missing or outcome.failed):  # all of /home/work
                shutil.move(place, destination)
                os.mkdir(place)  # for its removal
    return FAULT if outcome.failed else MISSING if outcome.missing else 0


def _rename(source: str, destination: str) -> None:
    """Raises ConfigError where one of both is a directory and the other one is none."""
    try:
        os.replace(source, destination)
    except OSError as error:
        raise ConfigError(f"{destination}: {error.strerror}; name another place") from None


def _send(client: Client, source: str, ref: str, path: str, say: Reporter) -> None:
    if not os.path.lexists(source):
        raise ConfigError(f"{source}: no such file or directory")
    if not (os.path.isfile(source) or os.path.isdir(source)):
        raise ConfigError(f"{source} is no file or directory; only these can be copied")
    session = hold_named(client, ref)
    name = os.path.basename(os.path.abspath(source))
    if not path or path.endswith("/") or _is_directory(client, session, path):
        path = os.path.join(path, name)
    with contextlib.ExitStack() as stack:
        if os.path.isdir(source):
            place, directory = path, source
        else:
            place, directory = os.path.dirname(path), stack.enter_context(_alone(source, path))
        nothing = exclusion([], [], with_vcs=True)
        tree = stack.enter_context(LocalTree(directory, nothing, say))
        upload(client, session, tree, list(tree.entries()), say, place)


@contextlib.contextmanager
def _alone(source: str, path: str) -> Iterator[str]:
    """A directory that has only the file `source`, under the last name of `path`."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-cp-") as place:
        try:
            shutil.copy2(source, os.path.join(place, os.path.basename(path)))
        except OSError as error:
            raise ConfigError(f"{source}: {error.strerror}") from None
        yield place


def _is_directory(client: Client, session: str, path: str) -> bool:
    try:
        client.call("GET", f"{session_path(session)}/files", params={"path": path})
    except Refused:  # a file, or nothing
        return False
    return True
