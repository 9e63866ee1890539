"""`sandboxd ls`: the files of a session."""

from __future__ import annotations

import argparse
import contextlib
import json

from .daemon_socket import running_daemon
from .long_listing import print_listing
from .references import session_facts, session_path


def main(args: argparse.Namespace) -> int:
    """List one directory."""
    with contextlib.closing(running_daemon(args.socket)) as client:
        session = str(session_facts(client, args.session)["sessionId"])
        answer = client.call("GET", f"{session_path(session)}/files", params={"path": args.path})
    print_listing(json.loads(answer["files"]), args.json)
    return 0
