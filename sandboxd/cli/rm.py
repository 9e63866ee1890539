"""`sandboxd rm`: deletes sessions, with all that goes on in them."""

from __future__ import annotations

import argparse
import contextlib

from ..errors import Refused
from .connection.daemon_socket import running_daemon
from .connection.references import session_facts, session_path
from .reporter import Reporter

FAILED = 1
"""Exit status when a session could not be deleted."""


def main(args: argparse.Namespace) -> int:
    """Delete the sessions; 0 when all of them are gone."""
    say = Reporter(quiet=False, as_json=False)
    code = 0
    with contextlib.closing(running_daemon(args.socket)) as client:
        for ref in args.sessions:
            try:
                session_facts(client, ref)
                client.call("DELETE", session_path(ref))
            except Refused as error:
                say.warning(f"{ref}: {error}")
                code = FAILED
    return code
