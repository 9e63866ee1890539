"""`sandboxd serve`."""

from __future__ import annotations

import argparse
import os

from .. import config
from ..warden.serve import serve


def main(args: argparse.Namespace) -> int:
    """Be the daemon until SIGTERM; its exit status."""
    state_dir = os.path.abspath(args.state_dir) if args.state_dir else None
    return serve(config.load(args.config, listen=args.listen, state_dir=state_dir, auth=args.auth))
