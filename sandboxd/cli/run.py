"""`sandboxd run`: uploads a folder, builds and runs it, shows its console live, and downloads
results.

With --workspace nothing is uploaded: the program works in a directory of the host.

The program's standard output goes to standard output, and its standard error to standard error.
Messages of sandboxd go to standard error too, in lines of their own. The command's standard input
is streamed to the steps, which share it as the commands of a script do; the file of --stdin is for
exec alone. Input and output are bytes, and sandboxd does not change them.

At a terminal, exec has a terminal for its input and output, too. This command leaves the user's
terminal as it is: that one shows what the user types and edits the line, and the other does neither
(shim/terminal_stdin.py).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import runtimes
from ..errors import ConfigError
from .connection.temporary_session import (
    TemporarySession,
    connect_or_start,
    create,
    deleted,
    end_at_signals,
    resources,
    step_seconds,
)
from .connection.turn import TurnWait
from .console.console_printer import ConsolePrinter
from .console.program_input import is_interactive, source
from .judged_cases import check, read_cases, request, run_cases
from .main import FAULT
from .parent_watch import end_with_parent
from .reporter import Reporter
from .session_variables import variables
from .transfer.exclusion import exclusion
from .transfer.local_tree import LocalTree, TreeEntry
from .transfer.results import check_writable, command, fetch, requests
from .transfer.tree_upload import upload
from .workspace_place import first_names, use_workspace, workspace_path

if TYPE_CHECKING:
    from .connection.private_daemon import PrivateDaemon

UNBUFFERED = "PYTHONUNBUFFERED"
"""The shim sets this variable where a client may be asked. Nobody is asked with --stdin FILE, and
an empty value lets Python write its output at its own speed."""


def main(args: argparse.Namespace) -> int:
    """Run the folder; the exit status of its program."""
    end_at_signals()
    if args.with_parent:
        end_with_parent()
    say = Reporter(args.quiet, args.json)
    workspace = _workspace(args)
    with contextlib.ExitStack() as stack:
        tree, entries = _tree(args, stack, say)
        image = args.image or _detect(_names(workspace, entries))
        requests(args.get)  # a name that cannot be a result is reported before the run
        if args.get:
            check_writable(args.into)
        options, config, stdin = _options(args), resources(args), source(args.stdin)
        if workspace:
            use_workspace(config, workspace, say)
        if is_interactive(args, stdin):
            options["interactive"] = True
        body = _cases(args, image, options, config) if args.cases else {}
        client, daemon = connect_or_start(args.socket, stack, say, image)
        stack.enter_context(contextlib.closing(client))
        if tree and args.cases:
            code = run_cases(client, args, body, tree, entries, say)
        else:
            if args.keep and daemon:
                raise ConfigError(
                    "--keep needs a daemon that runs on: start one with 'sandboxd serve', or leave "
                    "--private out"
                )
            turn = None if args.wait is None else TurnWait(say, args.wait)
            session = create(client, image, config, turn, args.name)
            with deleted(client, session) as temporary:
                if tree:
                    upload(client, session, tree, entries, say)
                printer = ConsolePrinter(client, session, options, say, turn)
                code = printer.follow(stdin, exec_only=args.stdin is not None)
                fault = _results(args, temporary, daemon, say)
                code = code or fault
    say.end(code)
    return code


def _tree(
    args: argparse.Namespace, stack: contextlib.ExitStack, say: Reporter
) -> tuple[LocalTree | None, list[TreeEntry]]:
    """The folder to upload, and its entries; None: the files are in a workspace."""
    if args.workspace:
        return None, []
    excludes = exclusion(args.exclude, args.exclude_from, args.include_vcs)
    tree = stack.enter_context(LocalTree(args.folder, excludes, say))
    return tree, list(tree.entries())


def _results(
    args: argparse.Namespace,
    temporary: TemporarySession,
    daemon: PrivateDaemon | None,
    say: Reporter,
) -> int:
    """Fetch the results of the run, and keep its session where it is needed; FAULT when a result
    could not be fetched."""
    client, session = temporary.client, temporary.session
    outcome = fetch(client, session, args.get, args.into, say)
    if args.keep:
        _keep(args, temporary, session, say)
    if not outcome.failed:
        return 0
    temporary.preserve(daemon)
    later = command(session, outcome.failed, args.into, args.socket, daemon)
    say.warning(f"these results stay for a day; to fetch them: {later}")
    return FAULT


def _cases(
    args: argparse.Namespace, image: str, options: dict[str, Any], config: dict[str, Any]
) -> dict[str, Any]:
    """The request for --cases. Raises ConfigError."""
    check(args, config)
    options = {name: value for name, value in options.items() if name != "interactive"}
    return request(image, options, config, read_cases(args.cases), args.stop_on_failure)


def _keep(
    args: argparse.Namespace, temporary: TemporarySession, session: str, say: Reporter
) -> None:
    """Let the session stay, and say what can be done with it."""
    temporary.preserve(None)
    named = [] if args.socket is None else ["--socket", args.socket]
    commands = (
        shlex.join(["sandboxd", "exec", *named, session, "--"]) + " COMMAND",
        shlex.join(["sandboxd", "rm", *named, session]),
    )
    text = f"the session {session} stays for a day after its last command: {'; '.join(commands)}"
    say.phase(text, always=True, session=session)


def _workspace(args: argparse.Namespace) -> str:
    """The absolute path of --workspace; "" without that. Raises ConfigError."""
    if bool(args.folder) == bool(args.workspace):
        raise ConfigError("name one of the two: FOLDER, to be uploaded, or --workspace DIR")
    return workspace_path(args.workspace) if args.workspace else ""


def _names(workspace: str, entries: list[TreeEntry]) -> list[str]:
    """The names of the files in the folder, or of the first ones in the workspace."""
    if not workspace:
        return [entry.name for entry in entries if entry.is_file]
    try:
        os.listdir(workspace)
    except OSError as error:
        raise ConfigError(f"--workspace {workspace}: {error.strerror}") from None
    return first_names(workspace)


def _detect(files: Iterable[str]) -> str:
    image = runtimes.detect(files)
    if image is None:
        raise ConfigError(
            "no runtime fits the files of the folder; name one with --image: 'sandboxd runtimes' "
            "lists them, and --image shell runs commands of your own (--build, --exec)"
        )
    return image


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The batch execution query object."""
    steps = {"clean": args.clean, "build": args.build, "exec": args.exec}
    if args.build is None and args.exec is None:
        steps |= {"build": "*", "exec": "*"}
    options: dict[str, Any] = dict(steps)
    timeouts = {
        step: step_seconds(option, value)
        for step, option, value in (
            ("exec", "--timeout", args.timeout),
            ("build", "--build-timeout", args.build_timeout),
        )
        if value is not None
    }
    if timeouts:
        options["timeout"] = timeouts
    if args.stdin not in (None, "-") and UNBUFFERED not in variables(args.env, args.env_file):
        options["environ"] = {UNBUFFERED: ""}
    return options
