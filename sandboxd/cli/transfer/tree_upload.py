"""The upload of a folder into a session: one archive, in one request, as a whole or not at all."""

from __future__ import annotations

from typing import Any

from ...errors import Refused
from ..connection.client import Client
from ..connection.patience import patiently
from ..reporter import Reporter
from .local_tree import LocalTree, TreeEntry
from .progress import progress
from .tar_stream import tar_stream

SMALL = 8 << 20
"""Bytes of files that fit into any usual session: the room for them is not looked up before."""


def upload(
    client: Client,
    session: str,
    tree: LocalTree,
    entries: list[TreeEntry],
    say: Reporter,
    place: str = "",
) -> None:
    """Put `entries` of `tree` into `place` below /home/work, and again if the daemon restarts
    meanwhile. Raises Refused when the session has no room."""
    total = sum(entry.size for entry in entries if entry.is_file)
    if total > SMALL:
        _check_room(client, session, tree.path, total)

    def put() -> dict[str, Any]:
        with progress(say, "uploading", total) as advance:
            return client.put_archive(session, place, tar_stream(tree, entries, say, advance))

    counts = patiently(client, say, "the upload", put)
    files = counts["files"]
    say.phase(
        f"uploaded {files} {'file' if files == 1 else 'files'}, {counts['bytes']:,} "
        f"{'byte' if counts['bytes'] == 1 else 'bytes'}",
        uploaded=files,
    )


def _check_room(client: Client, session: str, path: str, total: int) -> None:
    """Raise Refused for files that the session's file system can never hold, before any byte of
    them is sent."""
    size = int(client.call("GET", f"/session/{session}")["sandbox"]["scratch"]["size"])
    if total > size:
        raise Refused(
            f"the files in {path} have {total >> 20} MiB, and the session's file system has "
            f"{size >> 20} MiB: --disk makes it larger, --exclude leaves files out"
        )
