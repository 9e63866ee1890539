"""`sandboxd drain`: let nothing new begin, and see what still goes on."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from ..errors import ConfigError
from .client import Client

EVERY_S = 0.5


def main(args: argparse.Namespace) -> int:
    """Do as told; 0 when it is done, with --wait when nothing runs any more."""
    if args.undo and (args.wait or args.deadline is not None):
        raise ConfigError("--undo goes with neither --wait nor --deadline")
    if args.status and (args.undo or args.deadline is not None):
        raise ConfigError("--status changes nothing: leave --undo and --deadline away")
    client = Client(args.socket)
    try:
        if args.status:
            told = client.call("GET", "/admin/drain")
        else:
            body = {"deadline": args.deadline, "undo": args.undo}
            told = client.call("POST", "/admin/drain", body)
        _say(told, args.json)
        while args.wait and told["draining"] and not told["drained"]:
            time.sleep(EVERY_S)
            before, told = told, client.call("GET", "/admin/drain")
            if told != before:
                _say(told, args.json)
    finally:
        client.close()
    return 0


def _say(told: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(told) if as_json else _text(told), flush=True)


def _text(told: dict[str, Any]) -> str:
    if not told["draining"]:
        return f"not draining: {_count(told['running'], 'run goes', 'runs go')} on"
    waiting = told["waiting"]
    text = "drained: nothing runs" if told["drained"] else (
        f"draining: nothing new begins, {_count(told['running'], 'run goes', 'runs go')} on"
    )  # fmt: skip
    if waiting:
        text += f", {_count(waiting, 'waits', 'wait')} in line"
    if told["deadline"] and not told["drained"]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told["deadline"]))
        text += f"; what still runs at {at} is ended"
    return text


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
