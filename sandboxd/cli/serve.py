"""`sandboxd serve`: the daemon."""

from __future__ import annotations

import argparse
import functools
import os
import shutil

from ..config import settings, toml_file
from ..warden.private_cleanup import is_preserved
from ..warden.startup import serve

PRIVATE_SLOTS = 64
"""Sessions of a private daemon."""


def main(args: argparse.Namespace) -> int:
    """Be the daemon until SIGTERM; its exit status."""
    if args.private:
        read = functools.partial(toml_file.load, None, **private(args.private))
        try:
            return serve(read(), read, private=True)
        finally:
            if not is_preserved(args.private):
                shutil.rmtree(args.private, ignore_errors=True)
    state_dir = os.path.abspath(args.state_dir) if args.state_dir else None
    options = {"listen": args.listen, "state_dir": state_dir, "auth": args.auth}
    options |= {"metrics": args.metrics, "cgroup": args.cgroup}
    path = args.config and os.path.abspath(args.config)
    read = functools.partial(toml_file.load, path, **options)
    return serve(read(), read)


def private(folder: str) -> dict[str, object]:
    """The settings of a private daemon in `folder`."""
    slots = settings.SlotsConfig()
    return {
        # Other uids than a service on this host: the service may be down for a moment and own them.
        "slots": {"first_uid": slots.first_uid + slots.count + 1, "count": PRIVATE_SLOTS},
        "listen": [f"unix:{folder}/api.sock"],
        "state_dir": f"{folder}/state",
        "metrics": "",
        "log_level": "error",  # refusals are printed by the command
    }
