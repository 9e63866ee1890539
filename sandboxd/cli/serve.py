"""`sandboxd serve`."""

from __future__ import annotations

import argparse
import functools
import os
import shutil

from .. import config, config_file
from ..warden.startup import serve

PRIVATE_SLOTS = 64
"""Sessions of a daemon for one command."""


def main(args: argparse.Namespace) -> int:
    """Be the daemon until SIGTERM; its exit status."""
    if args.private:
        read = functools.partial(config_file.load, None, **private(args.private))
        try:
            return serve(read(), read, private=True)
        finally:
            shutil.rmtree(args.private, ignore_errors=True)
    state_dir = os.path.abspath(args.state_dir) if args.state_dir else None
    told = {"listen": args.listen, "state_dir": state_dir, "auth": args.auth}
    told |= {"metrics": args.metrics, "cgroup": args.cgroup}
    read = functools.partial(config_file.load, args.config and os.path.abspath(args.config), **told)
    return serve(read(), read)


def private(folder: str) -> dict[str, object]:
    """The settings of a daemon that lives in `folder` and for one command only."""
    slots = config.SlotsConfig()
    return {
        # Not the uids of a daemon in service: that may be down for a moment, and have sessions.
        "slots": {"first_uid": slots.first_uid + slots.count + 1, "count": PRIVATE_SLOTS},
        "listen": [f"unix:{folder}/api.sock"],
        "state_dir": f"{folder}/state",
        "metrics": "",
        "log_level": "warning",
    }
