"""`sandboxd ls`: the files of a session."""

from __future__ import annotations

import argparse
import contextlib
import json

from .connection.daemon_socket import running_daemon
from .connection.references import session_facts, session_path
from .transfer.long_listing import print_listing


def main(args: argparse.Namespace) -> int:
    """List one directory."""
    with contextlib.closing(running_daemon(args.socket)) as client:
        session = str(session_facts(client, args.session)["sessionId"])
        answer = client.call("GET", f"{session_path(session)}/files", params={"path": args.path})
    print_listing(json.loads(answer["files"]), args.json)
    return 0
