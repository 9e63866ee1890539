"""`sandboxd runtimes`: the runtimes of this host, and the reason for each absent one."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from .. import runtimes
from ..config import toml_file


def main(args: argparse.Namespace) -> int:
    """Print the table, or the list with --json."""
    descriptions = runtimes.load(toml_file.load(args.config)).describe()
    if args.json:
        print(json.dumps([asdict(entry) for entry in descriptions], indent=2))
        return 0
    width = max(len(entry.name) for entry in descriptions)
    available = [entry for entry in descriptions if entry.available]
    absent = [entry for entry in descriptions if not entry.available]
    for entry in available:
        print(f"{entry.name:<{width}}  yes  {', '.join(entry.tools.values())}")
    for entry in absent:
        print(f"{entry.name:<{width}}  no   {_why(entry)}")
    print(f"\n{len(available)} of {len(descriptions)} runtimes are available on this host.")
    if any(entry.packages for entry in absent):
        print(
            "Each other one needs the Debian packages in its line, and then a reload of the daemon."
        )
    return 0


def _why(entry: runtimes.Description) -> str:
    """The packages to install; the whole reason where they are unknown or would not help."""
    if entry.packages and entry.reason.endswith("; not there"):
        return f"apt-get install {' '.join(entry.packages)}"
    return entry.reason
