"""`sandboxd serve`."""

from __future__ import annotations

import argparse
import os
import shutil

from .. import config
from ..warden.serve import serve


def main(args: argparse.Namespace) -> int:
    """Be the daemon until SIGTERM; its exit status."""
    if args.private:
        try:
            return serve(config.load(None, **private(args.private)))
        finally:
            shutil.rmtree(args.private, ignore_errors=True)
    state_dir = os.path.abspath(args.state_dir) if args.state_dir else None
    told = {"listen": args.listen, "state_dir": state_dir, "auth": args.auth}
    return serve(config.load(args.config, **told, metrics=args.metrics, cgroup=args.cgroup))


def private(folder: str) -> dict[str, object]:
    """The settings of a daemon that lives in `folder` and for one command only."""
    return {
        "listen": [f"unix:{folder}/api.sock"],
        "state_dir": f"{folder}/state",
        "metrics": "",
        "log_level": "warning",
    }
