"""The options of the commands for the operator: the daemon, its keys, and tests of the host."""

from __future__ import annotations

import argparse

from ..config.settings import METRICS, SOCKET, STATE_DIR
from .options import Command, count, seconds, socket, socket_or_private


def _leaks(command: argparse.ArgumentParser) -> None:
    command.description = (
        "The daemon compares its leases with the state of the kernel, removes what belongs to no "
        "session, and names it. Exits with 1 if there was a leak, or a slot that cannot be emptied."
    )
    command.add_argument("--json", action="store_true", help="the whole lease table as JSON")
    socket(command)


def _serve(command: argparse.ArgumentParser) -> None:
    command.description = "Runs until SIGTERM. Prints one line when the daemon is ready."
    add = command.add_argument
    add(
        "--listen", metavar="ADDRESS", action="append",
        help=f"HOST:PORT or unix:PATH, may be repeated (default: unix:{SOCKET})",
    )  # fmt: skip
    add(
        "--metrics", metavar="ADDRESS",
        help=f"listener for Prometheus and health checks; '' for none (default: {METRICS})",
    )  # fmt: skip
    add("--state-dir", metavar="DIR", help=f"sessions and their files (default: {STATE_DIR})")
    add("--config", metavar="FILE", help="TOML; see docs/operations.md")
    add("--cgroup", metavar="PATH", help="a delegated cgroup for the runs, below /sys/fs/cgroup")
    add(
        "--auth", choices=["keypair", "none"],
        help="keypair (default): requests over TCP are signed; none: no keys, loopback only",
    )  # fmt: skip
    # For `sandboxd run`: socket and state in this folder, which is removed at the end.
    add("--private", metavar="DIR", help=argparse.SUPPRESS)


def _drain(command: argparse.ArgumentParser) -> None:
    command.description = (
        "The daemon refuses new sessions and runs (503) until --undo or its next start. Current "
        "runs may finish; runs in a queue stay there, also over a restart."
    )
    add = command.add_argument
    add(
        "--deadline",
        metavar="S",
        type=seconds,
        help="after S seconds end the runs that still go on",
    )
    add("--wait", action="store_true", help="return after the end of the last run")
    add("--undo", action="store_true", help="accept new work again")
    add("--status", action="store_true", help="change nothing")
    add("--json", action="store_true", help="JSON instead of text")
    socket(command)


def _runtimes(command: argparse.ArgumentParser) -> None:
    command.description = "Lists the runtimes, and the reason for each one that is absent."
    command.add_argument("--config", metavar="FILE", help="TOML; see docs/operations.md")
    command.add_argument("--json", action="store_true", help="a list of objects instead of a table")


def _keypair(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Keypairs sign the requests of clients. A running daemon sees changes at once."
    )
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser(
        "create", help="create a keypair and show its secret, only this once"
    )
    create.add_argument("--admin", action="store_true", help="may act for all owners")
    create.add_argument("--rate-limit", metavar="N", type=count, help="requests in 900 seconds")
    listing = actions.add_parser("list", help="all keypairs, without their secrets")
    for action in (create, listing):
        action.add_argument("--json", action="store_true", help="JSON instead of text")
    delete = actions.add_parser("delete", help="delete a keypair")
    delete.add_argument(
        "--force", action="store_true", help="even if it owns sessions or folders, which stay"
    )
    disable = actions.add_parser("disable", help="refuse the requests of a keypair")
    enable = actions.add_parser("enable", help="accept them again")
    for action in (delete, disable, enable):
        action.add_argument("access_key", metavar="ACCESS_KEY")
    for action in (create, listing, delete, disable, enable):
        action.add_argument("--state-dir", metavar="DIR", help=f"(default: {STATE_DIR})")
        action.add_argument("--config", metavar="FILE", help="TOML; see docs/operations.md")


def _doctor(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Tests, in throw-away processes, each protection that sandboxd relies on, and prints the "
        "result and the remedy. Exits with 0 if everything in [require] of the configuration "
        "holds, else with 1."
    )
    add = command.add_argument
    add("--config", metavar="FILE", help="TOML; see docs/operations.md")
    add("--state-dir", metavar="DIR", help=f"state directory of the daemon (default: {STATE_DIR})")
    add("--json", action="store_true", help="JSON instead of text")


def _selftest(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Attacks the daemon at --socket, or a private one, from inside of new sessions; as root it "
        "also looks at them from the host. The attacks do no harm where a protection is missing. "
        "Exits with 0 if every attack failed, else with 1."
    )
    add = command.add_argument
    add(
        "--only",
        metavar="NAME",
        nargs="+",
        default=[],
        help="only these attacks; * and ? are wildcards",
    )
    add(
        "--kind",
        metavar="KIND",
        nargs="+",
        default=[],
        help="only attacks of these kinds; see --list",
    )
    add("--list", action="store_true", help="list the attacks and run none")
    add("--workspace", metavar="DIR", help="attack this workspace of yours too (not as root)")
    add("--image", metavar="NAME", default="python", help="runtime of the sessions (python)")
    add("--json", action="store_true", help="JSON instead of text")
    socket_or_private(command)


COMMANDS: tuple[Command, ...] = (
    ("serve", "be the daemon", _serve),
    ("drain", "start nothing new, and wait for the runs that go on", _drain),
    ("runtimes", "list what this host can run", _runtimes),
    ("keypair", "create and manage the keys of clients", _keypair),
    ("doctor", "test what this host can guarantee", _doctor),
    ("selftest", "attack this installation, and check that every attack fails", _selftest),
    ("leaks", "find and remove resources that belong to no session", _leaks),
)
