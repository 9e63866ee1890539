"""`sandboxd logs`: the console of the run of a session that was started last.

Following reads the console again and again and disturbs no client of the run.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from ..errors import NotFound
from .client import Client
from .daemon_socket import running_daemon
from .references import session_facts, session_path

EVERY_S = 0.5


def main(args: argparse.Namespace) -> int:
    """Print the console; with --follow until the run or the session ends."""
    with contextlib.closing(running_daemon(args.socket)) as client:
        session = args.session
        with contextlib.suppress(NotFound):  # the console of an ended session may be kept
            session = str(session_facts(client, args.session)["sessionId"])
        shown = _print_rest(client, session, "")
        while args.follow:
            try:
                active = session_facts(client, session)["sandbox"]["runs"]["active"]
            except NotFound:
                break
            shown = _print_rest(client, session, shown)
            if active is None:
                break
            time.sleep(EVERY_S)
    return 0


def _print_rest(client: Client, session: str, shown: str) -> str:
    """Print what has come since the text `shown`; the whole text."""
    text = str(client.call("GET", f"{session_path(session)}/logs")["result"]["logs"])
    rest = text.removeprefix(shown) if text.startswith(shown) else text  # another run has begun
    sys.stdout.buffer.write(rest.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
    return text
