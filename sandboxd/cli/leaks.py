"""`sandboxd leaks`: has the daemon look for what nobody has, and shows it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..errors import NotFound, Unavailable
from .client import Client

FOUND = 1
"""Exit status when there was something."""


def main(args: argparse.Namespace) -> int:
    """Show the ledger; the exit status."""
    client = Client(args.socket)
    try:
        report: dict[str, Any] = client.call("GET", "/admin/leaks")
    except NotFound:
        raise Unavailable("the daemon is of an older version, which has no ledger") from None
    finally:
        client.close()
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _show(report)
    return FOUND if report["strays"] or report["stuck"] else 0


def _show(report: dict[str, Any]) -> None:
    slots = report["slots"]
    processes, size = (sum(slot[name] for slot in slots) for name in ("processes", "bytes"))
    print(f"{len(slots)} slots leased, {processes} processes, {size >> 20} MiB on disk")
    for stray in report["strays"]:
        print(_line(stray))
    for number in report["stuck"]:
        print(f"slot       {number} cannot be emptied; the next sweep tries again")
    if not report["strays"] and not report["stuck"]:
        print("no strays")
    if report["recent"]:
        earlier = len(report["recent"]) - len(report["strays"])
        if earlier > 0:
            print(f"{earlier} strays were found before; --json shows them")


def _line(stray: dict[str, Any]) -> str:
    age = "" if stray["age_s"] is None else f" ({stray['age_s']:.0f} s old)"
    # what it calls itself is the stray's own choice
    identity = json.dumps(stray["identity"])[1:-1]
    return f"{stray['kind']:<10} {identity}{age}: {stray['done']}"
