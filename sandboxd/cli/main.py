"""The command line `sandboxd COMMAND ...`: the commands, their options, and their errors.

A mistake of the user is one line on standard error with the remedy, and exit status 2. No command
prints a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import ConfigError, SandboxdError
from . import daemon_options, session_options
from .options import (
    LIMIT,
    NETWORK,
    seconds,
    session_settings,
    socket,
    socket_or_private,
    wait,
    with_parent,
)

USAGE_ERROR = 2
TIMED_OUT, FAULT = 124, 125
"""Exit status for a time limit, as with timeout(1), and when sandboxd itself failed."""

INTERRUPTED = 130

OLD_NAMES = {"audit": "selftest"}
"""Renamed commands by their old names, which scripts of operators may still use."""


_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a write to a file or a terminal that takes no more."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see '{self.prog} --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    _fill_streams()
    try:
        args, unknown = parser().parse_known_args(argv)
        if unknown:
            names = ["sandboxd", args.command, *filter(None, [getattr(args, "action", None)])]
            raise ConfigError(
                f"unrecognized arguments: {' '.join(unknown)}; see '{' '.join(names)} --help'"
            )
        module = OLD_NAMES.get(args.command, args.command)
        command = importlib.import_module(f".{module}", __package__)
        status = int(command.main(args))
        sys.stdout.flush()
        return status
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
    except OSError as error:
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            return _bug(error)
        _print_error(f"the output cannot be written: {error.strerror}; send it to another place")
        return FAULT
    except Exception as error:  # a bug of sandboxd
        return _bug(error)


def _bug(error: Exception) -> int:
    """Report a bug of sandboxd: one line, and the traceback on request; the exit status."""
    if os.environ.get("SANDBOXD_DEBUG"):
        raise error
    _print_error(f"internal error, {type(error).__name__}: {error}; SANDBOXD_DEBUG=1 shows where")
    return FAULT


def _fill_streams() -> None:
    """Open /dev/null for standard streams that the caller has closed, as a service manager may."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def _print_error(error: object) -> None:
    with contextlib.suppress(OSError):  # nowhere to say it
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
    session_options.add(commands)
    daemon_options.serve(commands.add_parser("serve", help="be the daemon"))
    daemon_options.drain(
        commands.add_parser("drain", help="start nothing new, and wait for the runs that go on")
    )
    daemon_options.runtimes(commands.add_parser("runtimes", help="list what this host can run"))
    daemon_options.keypair(
        commands.add_parser("keypair", help="create and manage the keys of clients")
    )
    daemon_options.doctor(commands.add_parser("doctor", help="test what this host can guarantee"))
    selftest = "attack this installation, and check that every attack fails"
    daemon_options.selftest(commands.add_parser("selftest", aliases=["audit"], help=selftest))
    daemon_options.leaks(
        commands.add_parser("leaks", help="find and remove resources that belong to no session")
    )
    return top


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
    _left_out(command)
    session_settings(command)
    add("--timeout", metavar="SECONDS", type=seconds, help="time limit of exec")
    add("--build-timeout", metavar="SECONDS", type=seconds, help="time limit of build")
    wait(command)
    with_parent(command)
    add(
        "--cases", metavar="FILE",
        help="run exec once for each case: a JSON file, or a directory with NAME.in and NAME.out",
    )  # fmt: skip
    add("--stop-on-failure", action="store_true", help="end at the first case that fails")
    add("--keep", action="store_true", help="let the session stay, for 'sandboxd exec'")
    add("--name", metavar="NAME", default="", help="the name of the session")
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
    socket_or_private(command)


def _left_out(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--exclude", metavar="GLOB", action="append", default=[],
        help="leave out these names at any depth, or with a / this path in FOLDER",
    )  # fmt: skip
    add(
        "--exclude-from", metavar="FILE", action="append", default=[],
        help="leave out what FILE names by the rules of .gitignore",
    )  # fmt: skip
    add("--include-vcs", action="store_true", help="upload .git, .hg and .svn too")


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
    socket(command)


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
    add("--network", metavar="PROFILE", help=NETWORK)
    add("--quiet", "-q", action="store_true", help="print only the terminal's output")
    socket_or_private(command)
