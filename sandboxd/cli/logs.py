"""`sandboxd logs`: the console of the run of a session that was started last.

It is read by position, so it disturbs no client of the run, and its size does not matter.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import Any

from ..errors import NotFound
from .connection.client import Client
from .connection.daemon_socket import running_daemon
from .connection.references import session_facts, session_path
from .reporter import Reporter

EVERY_S = 0.5


def main(args: argparse.Namespace) -> int:
    """Print the console; with --follow until the run or the session ends."""
    say = Reporter(quiet=True, as_json=False)
    with contextlib.closing(running_daemon(args.socket)) as client:
        try:
            session = str(session_facts(client, args.session)["sessionId"])
        except NotFound as error:
            _print_of_ended(client, args.session, error, say)
            return 0
        with say.program(), contextlib.suppress(NotFound):  # the session ends meanwhile
            _print(client, session, args.follow, say)
    return 0


def _print(client: Client, session: str, follow: bool, say: Reporter) -> None:
    run, offset = None, 0
    while True:
        log = _log(client, session, {"offset": offset})
        if run not in (None, log["runId"]):
            return  # another run has begun
        run, offset = log["runId"], log["offset"]
        for kind, data in log["console"]:
            if kind in ("stdout", "stderr"):
                say.console(kind, data)
        if log["over"] or not (follow or log["console"]):
            return
        if not log["console"]:
            time.sleep(EVERY_S)


def _print_of_ended(client: Client, ref: str, error: NotFound, say: Reporter) -> None:
    """Print the stored console of a session that is over. Raises `error` if there is none."""
    try:
        text = str(_log(client, ref, {})["logs"])
    except NotFound:
        raise error from None
    with say.program():
        say.text("stdout", text)


def _log(client: Client, ref: str, params: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = client.call("GET", f"{session_path(ref)}/logs", params=params)
    log: dict[str, Any] = result["result"]
    return log
