"""`sandboxd runtimes`: the runtimes of this host, and the reason for each absent one."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from .. import config_file, runtimes


def main(args: argparse.Namespace) -> int:
    """Print the table, or the list with --json."""
    descriptions = runtimes.load(config_file.load(args.config)).describe()
    if args.json:
        print(json.dumps([asdict(entry) for entry in descriptions], indent=2))
        return 0
    width = max(len(entry.name) for entry in descriptions)
    for entry in descriptions:
        state = "yes" if entry.available else "no "
        print(f"{entry.name:<{width}}  {state}  {_detail(entry)}")
    return 0


def _detail(entry: runtimes.Description) -> str:
    if not entry.available:
        return entry.reason
    return ", ".join(entry.tools.values())
