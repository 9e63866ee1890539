"""`sandboxd logs`: the console of the run of a session that was started last.

It is read by position, so it disturbs no client of the run, and its size does not matter.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import sys
import time
from typing import Any

from ..errors import NotFound
from .connection.client import Client
from .connection.daemon_socket import running_daemon
from .connection.references import session_facts, session_path

EVERY_S = 0.5


def main(args: argparse.Namespace) -> int:
    """Print the console; with --follow until the run or the session ends."""
    with contextlib.closing(running_daemon(args.socket)) as client:
        try:
            session = str(session_facts(client, args.session)["sessionId"])
        except NotFound as error:
            _print_of_ended(client, args.session, error)
            return 0
        with contextlib.suppress(NotFound):  # the session ends meanwhile
            _print(client, session, args.follow)
    return 0


def _print(client: Client, session: str, follow: bool) -> None:
    run, offset = None, 0
    while True:
        log = _log(client, session, {"offset": offset})
        if run not in (None, log["runId"]):
            return  # another run has begun
        run, offset = log["runId"], log["offset"]
        for kind, data in log["console"]:
            stream = sys.stderr if kind == "stderr" else sys.stdout
            if kind in ("stdout", "stderr"):
                stream.buffer.write(base64.b64decode(data))
                stream.flush()
        if log["over"] or not (follow or log["console"]):
            return
        if not log["console"]:
            time.sleep(EVERY_S)


def _print_of_ended(client: Client, ref: str, error: NotFound) -> None:
    """Print the stored console of a session that is over. Raises `error` if there is none."""
    try:
        text = str(_log(client, ref, {})["logs"])
    except NotFound:
        raise error from None
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def _log(client: Client, ref: str, params: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = client.call("GET", f"{session_path(ref)}/logs", params=params)
    log: dict[str, Any] = result["result"]
    return log
