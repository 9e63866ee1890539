"""`sandboxd exec`: runs one command in a session that exists, as a step of a CI job does."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from typing import Any

from ..errors import ConfigError
from .connection.daemon_socket import running_daemon
from .connection.holder import hold_named
from .connection.temporary_session import end_at_signals, step_seconds
from .console.console_printer import ConsolePrinter
from .console.program_input import is_interactive, source
from .parent_watch import end_with_parent
from .reporter import Reporter
from .session_variables import variables


def main(args: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    end_at_signals()
    if args.with_parent:
        end_with_parent()
    words = _command(args.words)
    say = Reporter(args.quiet, args.json)
    stdin = source(args.stdin)
    options: dict[str, Any] = {
        "exec": shlex.join(words),
        "environ": variables(args.env, args.env_file),
    }
    if args.timeout is not None:
        options["timeout"] = step_seconds("--timeout", args.timeout)
    if is_interactive(args, stdin):
        options["interactive"] = True
    with contextlib.closing(running_daemon(args.socket)) as client:
        session = hold_named(client, args.session)
        code = ConsolePrinter(client, session, options, say).follow(stdin, exec_only=False)
    say.end(code)
    return code


def _command(words: list[str]) -> list[str]:
    """The words behind SESSION, as a command. Raises ConfigError."""
    if words[:1] == ["--"]:
        words = words[1:]
    elif words and words[0].startswith("-"):
        raise ConfigError(f"{words[0]}: options come before SESSION, and -- before the command")
    if not words:
        raise ConfigError("no command; write: sandboxd exec SESSION -- COMMAND [ARG...]")
    return words
