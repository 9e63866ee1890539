"""The listing of a directory in a session or a folder, one entry a line, as `ls -l` has it."""

from __future__ import annotations

import json
import stat
import time
from typing import Any

from ..reporter import printable


def print_listing(entries: list[dict[str, Any]], as_json: bool) -> None:
    """Print the `entries` of the API."""
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    width = max((len(str(entry["size"])) for entry in entries), default=1)
    for entry in sorted(entries, key=lambda one: str(one["filename"])):
        print(_line(entry, width))


def _line(entry: dict[str, Any], width: int) -> str:
    mode = entry["mode"]
    text = stat.filemode(mode) if isinstance(mode, int) else str(mode)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(entry["mtime"])))
    target = f" -> {printable(entry['target'])}" if entry.get("target") else ""
    return f"{text} {entry['size']:>{width}} {when} {printable(entry['filename'])}{target}"
