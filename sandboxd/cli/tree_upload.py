"""The upload of a folder into a session: one archive, in one request, as a whole or not at all."""

from __future__ import annotations

from typing import Any

from .client import Client
from .local_tree import LocalTree, TreeEntry
from .patience import patiently
from .progress import progress
from .reporter import Reporter
from .tar_stream import tar_stream


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

    def put() -> dict[str, Any]:
        with progress(say, "uploading", total) as advance:
            return client.put_archive(session, place, tar_stream(tree, entries, say, advance))

    counts = patiently(client, say, "the upload", put)
    files = counts["files"]
    say.phase(
        f"uploaded {files} {'file' if files == 1 else 'files'}, {counts['bytes']:,} bytes",
        uploaded=files,
    )
