"""`sandboxd drain`: stops new runs and sessions, and shows the runs that still go on."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from ..errors import ConfigError
from .connection.daemon_socket import running_daemon

POLL_S = 0.5


def main(args: argparse.Namespace) -> int:
    """Drain, or undo it, or show the state; --wait returns after the last run."""
    if args.undo and (args.wait or args.deadline is not None):
        raise ConfigError("--undo goes with neither --wait nor --deadline")
    if args.status and (args.undo or args.deadline is not None):
        raise ConfigError("--status changes nothing: leave out --undo and --deadline")
    client = running_daemon(args.socket)
    try:
        if args.status:
            state = client.call("GET", "/admin/drain")
        else:
            body = {"deadline": args.deadline, "undo": args.undo}
            state = client.call("POST", "/admin/drain", body)
        _print(state, args.json)
        while args.wait and state["draining"] and not state["drained"]:
            time.sleep(POLL_S)
            before, state = state, client.call("GET", "/admin/drain")
            if state != before:
                _print(state, args.json)
    finally:
        client.close()
    return 0


def _print(state: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(state) if as_json else _text(state), flush=True)


def _text(state: dict[str, Any]) -> str:
    if not state["draining"]:
        return f"not draining: {_count(state['running'], 'run goes', 'runs go')} on"
    waiting = state["waiting"]
    text = "drained: nothing runs" if state["drained"] else (
        f"draining: nothing new begins, {_count(state['running'], 'run goes', 'runs go')} on"
    )  # fmt: skip
    if waiting:
        text += f", {_count(waiting, 'waits', 'wait')} in the queue"
    if state["deadline"] and not state["drained"]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state["deadline"]))
        text += f"; runs that still go on at {at} are ended"
    return text


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
