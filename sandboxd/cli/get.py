"""`sandboxd get`: fetches results of a session, such as those that `sandboxd run` could not."""

from __future__ import annotations

import argparse
import contextlib

from ..config.settings import RESULTS_S
from .connection.client import Client
from .connection.daemon_socket import running_daemon
from .connection.holder import hold
from .connection.private_daemon import PrivateDaemon, private_daemon
from .connection.references import session_facts
from .connection.temporary_session import end_at_signals, renew
from .main import FAULT
from .reporter import Reporter
from .transfer.results import check_writable, command, fetch

MISSING = 1
"""Exit status when a name matched nothing."""


def main(args: argparse.Namespace) -> int:
    """Fetch the results; 0 when all of them are there."""
    end_at_signals()
    say = Reporter(args.quiet, args.json)
    check_writable(args.into)
    with contextlib.ExitStack() as stack:
        client, daemon = _connect(args, stack)
        facts = session_facts(client, args.session)
        session = str(facts["sessionId"])
        hold(client, session)
        outcome = fetch(client, session, args.names, args.into, say)
        if outcome.failed:
            if facts["sandbox"]["ttlSeconds"]:
                renew(client, session, RESULTS_S)
            again = command(session, outcome.failed, args.into, args.socket, daemon)
            say.warning(f"the session has the rest still; to fetch it: {again}")
        elif args.rm and not outcome.missing:
            client.call("DELETE", f"/session/{session}")
            if daemon:
                daemon.forget()
    code = FAULT if outcome.failed else MISSING if outcome.missing else 0
    say.end(code)
    return code


def _connect(
    args: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[Client, PrivateDaemon | None]:
    if args.state:
        daemon = stack.enter_context(private_daemon(args.state))
        client = Client(daemon.socket, comes_back=False)
        return stack.enter_context(contextlib.closing(client)), daemon
    return stack.enter_context(contextlib.closing(running_daemon(args.socket))), None
