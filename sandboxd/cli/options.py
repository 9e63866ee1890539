"""Types and groups of options that several commands have."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from ..config.settings import SOCKET

Command = tuple[str, str, Callable[[argparse.ArgumentParser], None]]
"""A command: its name, a line of help, and the function that adds its options."""

PRIVATE = ""
"""The socket of `--private`: no socket."""

NETWORK = "reach the hosts of this network profile of the daemon's configuration"
LIMIT = "another limit of all steps, such as wall_s=600 or nofile=512"


def seconds(text: str) -> float:
    """The type of an option that is a time."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of seconds is needed") from None


def count(text: str) -> int:
    """The type of an option that is a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number is needed") from None


def environment(command: argparse.ArgumentParser) -> None:
    """The options for variables."""
    add = command.add_argument
    add(
        "--env", metavar="NAME[=VALUE]", action="append", default=[],
        help="a variable of the program; NAME alone: with the value of this environment",
    )  # fmt: skip
    add(
        "--env-file", metavar="FILE", action="append", default=[],
        help="such variables, one a line; # begins a comment",
    )  # fmt: skip


def session_settings(command: argparse.ArgumentParser) -> None:
    """The options for the limits, variables and folders of a new session."""
    environment(command)
    add = command.add_argument
    add(
        "--folder", dest="mounts", metavar="NAME[:ro]", action="append", default=[],
        help="a virtual folder, as /home/work/NAME; see 'sandboxd folder'",
    )  # fmt: skip
    add("--mem", metavar="SIZE", help="memory limit, such as 512m or 2g")
    add("--cpus", metavar="N", help="share of CPUs, such as 0.5 or 2")
    add("--disk", metavar="SIZE", help="size of the session's file system, such as 512m")
    add("--pids", metavar="N", help="limit of processes and threads")
    add("--network", metavar="PROFILE", help=NETWORK)
    add("--limit", metavar="NAME=VALUE", action="append", default=[], help=LIMIT)


def wait(command: argparse.ArgumentParser) -> None:
    """The option of a command that may wait for a full or draining machine."""
    command.add_argument(
        "--wait", metavar="SECONDS", nargs="?", type=_waiting_time, const=math.inf,
        help="wait for a turn while the machine is full or drained; without SECONDS: for ever",
    )  # fmt: skip


def with_parent(command: argparse.ArgumentParser) -> None:
    """The option of a command that a CI system starts."""
    command.add_argument(
        "--with-parent", action="store_true",
        help="end, as by SIGTERM, when the process ends that has started this command: a worker of "
        "a CI system that was killed",
    )  # fmt: skip


def _waiting_time(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds; write --wait behind it, or --wait=SECONDS"
        )
    return seconds


def socket(command: argparse._ActionsContainer) -> None:
    """The option of a command that is about a running daemon."""
    text = (
        "the daemon's, or the URL of an endpoint (default: $SANDBOXD_SOCKET, "
        f"$SANDBOXD_ENDPOINT, or {SOCKET})"
    )
    command.add_argument("--socket", metavar="PATH", help=text)


def socket_or_private(command: argparse.ArgumentParser) -> None:
    """The options of a command that starts a private daemon where none runs."""
    group = command.add_mutually_exclusive_group()
    socket(group)
    group.add_argument(
        "--private", dest="socket", action="store_const", const=PRIVATE,
        help="start a private daemon for this command, even where one runs",
    )  # fmt: skip
