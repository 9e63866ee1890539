"""The command line `sandboxd COMMAND ...`: the commands and their errors.

The options of a command are in session_options.py or daemon_options.py, without the modules that
carry the command out: `sandboxd --help` is quick.

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
from .reporter import printable

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
        print(f"sandboxd: {printable(' '.join(str(error).split()))}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = _Parser(
        prog="sandboxd",
        description="Runs other people's programs safely on this host, without containers.",
    )
    top.add_argument("--version", action="version", version=f"sandboxd {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help, options in (*session_options.COMMANDS, *daemon_options.COMMANDS):
        aliases = [old for old, new in OLD_NAMES.items() if new == name]
        options(commands.add_parser(name, help=help, aliases=aliases))
    return top
