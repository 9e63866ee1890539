"""`sandboxd ps`: the sessions of the caller."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from datetime import datetime
from typing import Any

from .connection.client import Client
from .connection.daemon_socket import running_daemon

PAGE = 100
_LIST = """query($offset: Int!) {
  compute_session_list(limit: 100, offset: $offset, status: "PENDING,PREPARING,RUNNING,TERMINATING",
                       order: "-created_at") {
    items { id name image status created_at } total_count
  }
}"""


def main(args: argparse.Namespace) -> int:
    """Print the table, or the list with --json."""
    with contextlib.closing(running_daemon(args.socket)) as client:
        sessions = _sessions(client)
    if args.json:
        print(json.dumps(sessions, indent=2))
        return 0
    names = max([len("SESSION"), *(len(each["name"]) for each in sessions)])
    print(f"{'SESSION':<{names}}  {'STATUS':<11}  {'RUNTIME':<12}  {'AGE':>8}  ID")
    for each in sessions:
        age = _age(each["created_at"])
        print(
            f"{each['name']:<{names}}  {each['status']:<11}  {each['image']:<12}  {age:>8}  "
            f"{each['id']}"
        )
    return 0


def _sessions(client: Client) -> list[dict[str, Any]]:
    sessions: list[dict[str, Any]] = []
    while True:
        body = {"query": _LIST, "variables": {"offset": len(sessions)}}
        page = client.call("POST", "/admin/gql", body)["data"]["compute_session_list"]
        sessions += page["items"]
        if len(page["items"]) < PAGE:
            return sessions


def _age(created_at: str) -> str:
    seconds = max(0, int(time.time() - datetime.fromisoformat(created_at).timestamp()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
