"""`sandboxd COMMAND ...`: the commands, their options, and how mistakes are told.

A mistake is one line on standard error with the remedy, and exit status 2; nobody who uses a
command sees a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..config import METRICS, SOCKET, STATE_DIR
from ..errors import ConfigError, SandboxdError

USAGE_ERROR = 2
TIMED_OUT, FAULT = 124, 125
"""Exit status for a time limit, as with timeout(1), and when sandboxd itself failed."""

INTERRUPTED = 130

OLD_NAMES = {"audit": "selftest"}
"""Commands that were renamed, under the names that scripts of operators may still have."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see '{self.prog} --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        args = parser().parse_args(argv)
        module = OLD_NAMES.get(args.command, args.command)
        command = importlib.import_module(f".{module}", __package__)
        return int(command.main(args))
    except ConfigError as error:
        _say(error)
        return USAGE_ERROR
    except SandboxdError as error:
        _say(error)
        return FAULT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as `| head` does
        sys.stderr.close()
        return 141
    except Exception as error:  # a bug of ours: one line for the user, all of it for who asks
        if os.environ.get("SANDBOXD_DEBUG"):
            raise
        _say(f"internal error, {type(error).__name__}: {error}; SANDBOXD_DEBUG=1 shows where")
        return FAULT


def _say(error: object) -> None:
    print(f"sandboxd: {' '.join(str(error).split())}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = _Parser(
        prog="sandboxd",
        description="Runs other people's programs safely on this host, without containers.",
    )
    top.add_argument("--version", action="version", version=f"sandboxd {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _run(commands.add_parser("run", help="upload a folder, build and run it, show its output"))
    _shell(commands.add_parser("shell", help="sit down at a terminal in a session"))
    _serve(commands.add_parser("serve", help="be the daemon"))
    _drain(commands.add_parser("drain", help="let nothing new begin, so that the host can be left"))
    _runtimes(commands.add_parser("runtimes", help="list what this host can run"))
    _keypair(commands.add_parser("keypair", help="make and manage the keys of clients"))
    _doctor(commands.add_parser("doctor", help="try what this host can guarantee"))
    selftest = "attack this installation, and see that it holds"
    _selftest(commands.add_parser("selftest", aliases=["audit"], help=selftest))
    _leaks(commands.add_parser("leaks", help="look for what belongs to no session"))
    return top


def _leaks(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Has the daemon compare what it has leased with what the kernel has, remove what nobody "
        "has, and name it. Exits with 1 when there was something."
    )
    command.add_argument("--json", action="store_true", help="the whole ledger as JSON")
    command.add_argument(
        "--socket", metavar="PATH", default=SOCKET, help=f"the daemon's (default: {SOCKET})"
    )


def _run(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Uploads FOLDER into a new session, runs its steps and shows the console live. Exits with "
        "the program's exit code; 124: a time limit, 125: sandboxd's own failure, 2: a mistake in "
        "the command line. Uses the daemon at --socket, or starts a private one for this run."
    )
    add = command.add_argument
    add("folder", metavar="FOLDER", help="what to upload, all of it but .git and the like")
    add("--image", metavar="NAME", help="runtime; default: seen from the files in FOLDER")
    add("--clean", metavar="CMD", help="shell command before the build")
    add("--build", metavar="CMD", help="shell command; '*' for the runtime's default")
    add("--exec", metavar="CMD", help="shell command; '*' for the runtime's default")
    add("--get", metavar="PATH", nargs="+", default=[], help="download these results at the end")
    add("--into", metavar="DIR", default=".", help="where --get puts them (default: here)")
    add("--exclude", metavar="GLOB", action="append", default=[], help="leave these files out")
    add("--env", metavar="NAME=VALUE", action="append", default=[], help="for all steps")
    add("--mem", metavar="SIZE", help="memory limit, such as 512m or 2g")
    add("--cpus", metavar="N", help="share of CPUs, such as 0.5 or 2")
    add("--timeout", metavar="SECONDS", type=float, help="time limit of exec")
    add("--stdin", metavar="FILE", help="exec's standard input; default: asked for when wanted")
    add("--quiet", "-q", action="store_true", help="only what the program prints")
    add("--json", action="store_true", help="events as JSON, one a line, on standard output")
    add("--socket", metavar="PATH", default=SOCKET, help=f"the daemon's (default: {SOCKET})")


def _shell(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Ties this terminal to a shell in the session NAME or, if there is none of that name, in a "
        "new session with the runtime NAME, which is deleted when the shell ends. Exits with the "
        "shell's exit code, or as 'run' does."
    )
    add = command.add_argument
    add("name", metavar="NAME", help="a session, or a runtime such as c or python")
    add("--env", metavar="NAME=VALUE", action="append", default=[], help="in a new session")
    add("--mem", metavar="SIZE", help="memory limit of a new session, such as 512m or 2g")
    add("--cpus", metavar="N", help="share of CPUs of a new session, such as 0.5 or 2")
    add("--quiet", "-q", action="store_true", help="only what the terminal shows")
    add("--socket", metavar="PATH", default=SOCKET, help=f"the daemon's (default: {SOCKET})")


def _serve(command: argparse.ArgumentParser) -> None:
    command.description = "Runs until SIGTERM. Prints one line when it is ready."
    add = command.add_argument
    add(
        "--listen", metavar="ADDRESS", action="append",
        help=f"HOST:PORT or unix:PATH, may be repeated (default: unix:{SOCKET})",
    )  # fmt: skip
    add(
        "--metrics", metavar="ADDRESS",
        help=f"where Prometheus and health checks may ask; '' for nowhere (default: {METRICS})",
    )  # fmt: skip
    add("--state-dir", metavar="DIR", help=f"sessions and their files (default: {STATE_DIR})")
    add("--config", metavar="FILE", help="TOML; see docs/operations.md")
    add("--cgroup", metavar="PATH", help="a delegated group, below /sys/fs/cgroup, for the runs")
    add(
        "--auth", choices=["keypair", "none"],
        help="keypair (default): requests over TCP are signed; none: no keys, loopback only",
    )  # fmt: skip
    # For `sandboxd run`: socket and state in this folder, which is removed at the end.
    add("--private", metavar="DIR", help=argparse.SUPPRESS)


def _drain(command: argparse.ArgumentParser) -> None:
    command.description = (
        "The daemon refuses new sessions and runs (503) until --undo or its next start. Runs that "
        "go on are waited for; those that wait in line stay there, also over a restart."
    )
    add = command.add_argument
    add("--deadline", metavar="S", type=float, help="end what still runs in S seconds")
    add("--wait", action="store_true", help="return when nothing runs any more")
    add("--undo", action="store_true", help="take on work again")
    add("--status", action="store_true", help="change nothing")
    add("--json", action="store_true", help="JSON instead of text")
    add("--socket", metavar="PATH", default=SOCKET, help=f"the daemon's (default: {SOCKET})")


def _runtimes(command: argparse.ArgumentParser) -> None:
    command.description = "Lists the runtimes, and for those that are absent, why."
    command.add_argument("--config", metavar="FILE", help="TOML; see docs/operations.md")
    command.add_argument("--json", action="store_true", help="a list of objects instead of a table")


def _keypair(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Keypairs sign the requests of clients. Changes count at once, also for a daemon that runs."
    )
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a keypair and show its secret, this once")
    create.add_argument("--admin", action="store_true", help="may act for all owners")
    create.add_argument("--rate-limit", metavar="N", type=int, help="requests in 900 seconds")
    listing = actions.add_parser("list", help="all keypairs, without their secrets")
    for action in (create, listing):
        action.add_argument("--json", action="store_true", help="JSON instead of text")
    delete = actions.add_parser("delete", help="forget a keypair")
    delete.add_argument(
        "--force", action="store_true", help="even if it owns something; that stays"
    )
    disable = actions.add_parser("disable", help="let a keypair sign no more requests")
    enable = actions.add_parser("enable", help="let it sign requests again")
    for action in (delete, disable, enable):
        action.add_argument("access_key", metavar="ACCESS_KEY")
    for action in (create, listing, delete, disable, enable):
        action.add_argument("--state-dir", metavar="DIR", help=f"(default: {STATE_DIR})")
        action.add_argument("--config", metavar="FILE", help="TOML; see docs/operations.md")


def _doctor(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Tries, in throw-away processes, each protection that sandboxd relies on, and says what "
        "holds and what to do about the rest. Exits with 0 when all that [require] of the "
        "configuration names holds, else with 1."
    )
    add = command.add_argument
    add("--config", metavar="FILE", help="TOML; see docs/operations.md")
    add("--state-dir", metavar="DIR", help=f"of the daemon that is meant (default: {STATE_DIR})")
    add("--json", action="store_true", help="JSON instead of text")


def _selftest(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Attacks the daemon at --socket, or a private one, in sessions made for that: from inside, "
        "and as root with a look from the host. Does no harm where a protection is missing. Exits "
        "with 0 when every attack failed, else with 1."
    )
    add = command.add_argument
    add("--only", metavar="NAME", nargs="+", default=[], help="these attacks; * and ? for families")
    add("--kind", metavar="KIND", nargs="+", default=[], help="attacks of these kinds; see --list")
    add("--list", action="store_true", help="say what there is, and attack nothing")
    add("--image", metavar="NAME", default="python", help="runtime of the sessions (python)")
    add("--json", action="store_true", help="JSON instead of text")
    add("--socket", metavar="PATH", default=SOCKET, help=f"the daemon's (default: {SOCKET})")
