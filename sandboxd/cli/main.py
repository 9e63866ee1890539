"""The command line `sandboxd COMMAND ...`: the commands, their options, and their errors.

A mistake of the user is one line on standard error with the remedy, and exit status 2. No command
prints a traceback.
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

LIMIT = "another limit of all steps, such as pids=500, wall_s=600 or disk=2g"

PRIVATE = ""
"""The socket of `--private`: no socket."""

OLD_NAMES = {"audit": "selftest"}
"""Renamed commands by their old names, which scripts of operators may still use."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see '{self.prog} --help'")


def _seconds(text: str) -> float:
    """The type of an option that is a time."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of seconds is needed") from None


def _count(text: str) -> int:
    """The type of an option that is a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number is needed") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        args, unknown = parser().parse_known_args(argv)
        if unknown:
            names = ["sandboxd", args.command, *filter(None, [getattr(args, "action", None)])]
            raise ConfigError(
                f"unrecognized arguments: {' '.join(unknown)}; see '{' '.join(names)} --help'"
            )
        module = OLD_NAMES.get(args.command, args.command)
        command = importlib.import_module(f".{module}", __package__)
        return int(command.main(args))
    except ConfigError as error:
        _print_error(error)
        return USAGE_ERROR
    except SandboxdError as error:
        _print_error(error)
        return FAULT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has gone, as in `| head`
        sys.stderr.close()
        return 141
    except Exception as error:  # a bug of sandboxd: one line, and the traceback on request
        if os.environ.get("SANDBOXD_DEBUG"):
            raise
        _print_error(
            f"internal error, {type(error).__name__}: {error}; SANDBOXD_DEBUG=1 shows where"
        )
        return FAULT


def _print_error(error: object) -> None:
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
    _get(commands.add_parser("get", help="fetch files of a session, such as results of a run"))
    _shell(commands.add_parser("shell", help="open a terminal in a session"))
    _serve(commands.add_parser("serve", help="be the daemon"))
    _drain(commands.add_parser("drain", help="start nothing new, and wait for the runs that go on"))
    _runtimes(commands.add_parser("runtimes", help="list what this host can run"))
    _keypair(commands.add_parser("keypair", help="create and manage the keys of clients"))
    _doctor(commands.add_parser("doctor", help="test what this host can guarantee"))
    selftest = "attack this installation, and check that every attack fails"
    _selftest(commands.add_parser("selftest", aliases=["audit"], help=selftest))
    _leaks(commands.add_parser("leaks", help="find and remove resources that belong to no session"))
    return top


def _socket(command: argparse._ActionsContainer) -> None:
    """The option of a command that is about a running daemon."""
    command.add_argument("--socket", metavar="PATH", help=f"the daemon's (default: {SOCKET})")


def _socket_or_private(command: argparse.ArgumentParser) -> None:
    """The options of a command that starts a private daemon where none runs."""
    group = command.add_mutually_exclusive_group()
    _socket(group)
    group.add_argument(
        "--private", dest="socket", action="store_const", const=PRIVATE,
        help="start a private daemon for this command, even where one runs",
    )  # fmt: skip


def _leaks(command: argparse.ArgumentParser) -> None:
    command.description = (
        "The daemon compares its leases with the state of the kernel, removes what belongs to no "
        "session, and names it. Exits with 1 if there was a leak."
    )
    command.add_argument("--json", action="store_true", help="the whole lease table as JSON")
    _socket(command)


def _run(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Uploads FOLDER into a new session, runs its steps and shows the console live. Exits with "
        "the program's exit code; 124: a time limit, 125: sandboxd's own failure, 2: a mistake in "
        "the command line. Uses the daemon that runs, or starts a private one for this run."
    )
    add = command.add_argument
    add(
        "folder", metavar="FOLDER", nargs="?",
        help="the folder to upload, without .git, .hg and .svn",
    )  # fmt: skip
    add(
        "--workspace", metavar="DIR",
        help="upload nothing: the program works in this directory of yours itself, which is below "
        "one of the [workspaces] paths of the daemon",
    )  # fmt: skip
    add("--image", metavar="NAME", help="runtime; default: detected from the files in FOLDER")
    add("--clean", metavar="CMD", help="shell command before the build")
    add("--build", metavar="CMD", help="shell command; '*' for the runtime's default")
    add("--exec", metavar="CMD", help="shell command; '*' for the runtime's default")
    add(
        "--get", metavar="PATH", nargs="+", default=[],
        help="fetch these results at the end; *, ** and ? are wildcards, to be quoted",
    )  # fmt: skip
    add("--into", metavar="DIR", default=".", help="where --get puts them (default: here)")
    add(
        "--exclude", metavar="GLOB", action="append", default=[],
        help="leave out these names at any depth, or with a / this path in FOLDER",
    )  # fmt: skip
    add(
        "--exclude-from", metavar="FILE", action="append", default=[],
        help="leave out what FILE names by the rules of .gitignore",
    )  # fmt: skip
    add("--include-vcs", action="store_true", help="upload .git, .hg and .svn too")
    add("--env", metavar="NAME=VALUE", action="append", default=[], help="for all steps")
    add("--mem", metavar="SIZE", help="memory limit, such as 512m or 2g")
    add("--cpus", metavar="N", help="share of CPUs, such as 0.5 or 2")
    add("--limit", metavar="NAME=VALUE", action="append", default=[], help=LIMIT)
    add("--timeout", metavar="SECONDS", type=_seconds, help="time limit of exec")
    add(
        "--stdin",
        metavar="FILE",
        help="exec's standard input, any bytes; default: this command's own, for all steps",
    )
    add(
        "--interactive", "-i", action=argparse.BooleanOptionalAction,
        help="exec has a terminal for its input and output, which makes prompts of all languages "
        "appear at once; default: if standard input and output of this command are a terminal",
    )  # fmt: skip
    add(
        "--quiet", "-q", action="store_true",
        help="print only the program's output, and the reason if a limit or a build ended it",
    )  # fmt: skip
    add("--json", action="store_true", help="events as JSON, one a line, on standard output")
    _socket_or_private(command)


def _get(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Fetches files of SESSION. 'sandboxd run' prints the command when it could not fetch the "
        "results itself; they stay for a day. Exits with 1 if a name matched nothing, and with 125 "
        "if results could not be fetched."
    )
    add = command.add_argument
    add("session", metavar="SESSION", help="its name or UUID")
    add(
        "names", metavar="PATH", nargs="+",
        help="below /home/work; *, ** and ? are wildcards, to be quoted",
    )  # fmt: skip
    add("--into", metavar="DIR", default=".", help="where to put them (default: here)")
    add("--rm", action="store_true", help="delete the session when everything is fetched")
    add("--state", metavar="DIR", help="of a private daemon that is over; 'run' prints it")
    add("--quiet", "-q", action="store_true", help="print only warnings")
    add("--json", action="store_true", help="events as JSON, one a line, on standard output")
    _socket(command)


def _shell(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Connects this terminal to a shell in the session NAME. If no session has that name, a "
        "new one with the runtime NAME is created and deleted when the shell ends. Exits with "
        "the shell's exit code, or as 'run' does."
    )
    add = command.add_argument
    add("name", metavar="NAME", help="a session, or a runtime such as c or python")
    add("--env", metavar="NAME=VALUE", action="append", default=[], help="in a new session")
    add("--mem", metavar="SIZE", help="memory limit of a new session, such as 512m or 2g")
    add("--cpus", metavar="N", help="share of CPUs of a new session, such as 0.5 or 2")
    add("--limit", metavar="NAME=VALUE", action="append", default=[], help=LIMIT)
    add("--quiet", "-q", action="store_true", help="print only the terminal's output")
    _socket_or_private(command)


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
        "The daemon refuses new sessions and runs (503) until --undo or its next start. Runs that "
        "go on may end; runs in a queue stay there, also over a restart."
    )
    add = command.add_argument
    add(
        "--deadline",
        metavar="S",
        type=_seconds,
        help="after S seconds end the runs that still go on",
    )
    add("--wait", action="store_true", help="return after the end of the last run")
    add("--undo", action="store_true", help="accept new work again")
    add("--status", action="store_true", help="change nothing")
    add("--json", action="store_true", help="JSON instead of text")
    _socket(command)


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
    create.add_argument("--rate-limit", metavar="N", type=_count, help="requests in 900 seconds")
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
    _socket_or_private(command)
