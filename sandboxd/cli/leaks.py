"""The command `sandboxd leaks`: has the daemon check for leaks, and shows its report."""

from __future__ import annotations

import argparse
import contextlib
import json
from typing import Any

from .connection.daemon_socket import running_daemon

LEAKS = 1
"""Exit status when there were leaks, or slots that cannot be emptied."""


def main(args: argparse.Namespace) -> int:
    """Show the report; the exit status."""
    with contextlib.closing(running_daemon(args.socket)) as client:
        report: dict[str, Any] = client.call("GET", "/admin/leaks")
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _show(report)
    return LEAKS if report["leaks"] or report["stuck"] else 0


def _show(report: dict[str, Any]) -> None:
    slots = report["slots"]
    processes, size = (sum(slot[name] for slot in slots) for name in ("processes", "bytes"))
    print(f"{len(slots)} slots leased, {processes} processes, {size >> 20} MiB on disk")
    for leak in report["leaks"]:
        print(_line(leak))
    for number in report["stuck"]:
        print(f"slot       {number} cannot be emptied yet; the daemon goes on trying")
    if not report["leaks"] and not report["stuck"]:
        print("no leaks")
    if report["recent"]:
        earlier = len(report["recent"]) - len(report["leaks"])
        if earlier > 0:
            print(f"{earlier} earlier leaks; --json shows them")


def _line(leak: dict[str, Any]) -> str:
    age = "" if leak["age_s"] is None else f" ({leak['age_s']:.0f} s old)"
    # A process chooses its own title: escaped, so that it cannot write to the terminal.
    identity = json.dumps(leak["identity"])[1:-1]
    return f"{leak['kind']:<10} {identity}{age}: {leak['done']}"
