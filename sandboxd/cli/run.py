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
import errno
import math
import os
import signal
import stat
import sys
from collections.abc import Iterable
from typing import Any

from .. import runtimes
from ..errors import ConfigError
from .console_printer import ConsolePrinter
from .exclusion import exclusion
from .local_tree import LocalTree
from .main import FAULT
from .reporter import Reporter
from .results import check_writable, command, fetch, requests
from .stdin_sender import InputSource
from .temporary_session import connect_or_start, create, deleted, resources, terminated
from .tree_upload import upload

UNBUFFERED = "PYTHONUNBUFFERED"
"""The shim sets this variable where a client may be asked. Nobody is asked with --stdin FILE, and
an empty value lets Python write its output at its own speed."""


def main(args: argparse.Namespace) -> int:
    """Run the folder; the exit status of its program."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, terminated)
    say = Reporter(args.quiet, args.json)
    workspace = _workspace(args)
    excludes = exclusion(args.exclude, args.exclude_from, args.include_vcs)
    with contextlib.ExitStack() as stack:
        tree = None
        if workspace:
            image = args.image or _detect(_files_in(workspace))
        else:
            tree = stack.enter_context(LocalTree(args.folder, excludes, say))
            entries = list(tree.entries())
            image = args.image or _detect(entry.name for entry in entries if entry.is_file)
        requests(args.get)  # a name that cannot be a result is reported before the run
        if args.get:
            check_writable(args.into)
        options, config, source = _options(args), resources(args), _source(args.stdin)
        if workspace:
            config["workspace"] = workspace
        if _is_interactive(args, source):
            options["interactive"] = True
        client, daemon = connect_or_start(args.socket, stack, say, image)
        stack.enter_context(contextlib.closing(client))
        session = create(client, image, config)
        with deleted(client, session) as temporary:
            if tree:
                upload(client, session, tree, entries, say)
            printer = ConsolePrinter(client, session, options, say)
            code = printer.follow(source, exec_only=args.stdin is not None)
            outcome = fetch(client, session, args.get, args.into, say)
            if outcome.failed:
                temporary.preserve(daemon)
                later = command(session, outcome.failed, args.into, args.socket, daemon)
                say.warning(f"these results stay for a day; to fetch them: {later}")
                code = code or FAULT
    say.end(code)
    return code


def _workspace(args: argparse.Namespace) -> str:
    """The absolute path of --workspace; "" without that. Raises ConfigError."""
    if bool(args.folder) == bool(args.workspace):
        raise ConfigError("name one of the two: FOLDER, to be uploaded, or --workspace DIR")
    if not args.workspace:
        return ""
    if os.geteuid() == 0:
        raise ConfigError("root has no workspaces: run this as the user whose directory it is")
    return str(os.path.realpath(args.workspace))


def _files_in(directory: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(directory) if entry.is_file()]
    except OSError as error:
        raise ConfigError(f"--workspace {directory}: {error.strerror}") from None


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
    if args.timeout is not None:
        if not 0 < args.timeout < math.inf:
            raise ConfigError(f"--timeout {args.timeout:g}: a number of seconds above 0 is needed")
        options["timeout"] = args.timeout
    if args.stdin not in (None, "-") and not any(
        text.startswith(f"{UNBUFFERED}=") for text in args.env
    ):
        options["environ"] = {UNBUFFERED: ""}
    return options


def _is_interactive(args: argparse.Namespace, source: InputSource) -> bool:
    """Whether exec has a terminal: as the user says, or as this command has one itself."""
    if args.interactive is not None:
        return bool(args.interactive)
    writes_to_terminal = sys.stdout is not None and sys.stdout.isatty()
    return source.is_terminal and writes_to_terminal and not args.json


def _source(name: str | None) -> InputSource:
    """The input of the file `name`; None or "-": of the command. Raises ConfigError."""
    if name in (None, "-"):
        return InputSource(None if sys.stdin is None else sys.stdin.fileno())
    try:
        fd = os.open(str(name), os.O_RDONLY)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise ConfigError(f"--stdin {name}: {error.strerror}") from None
    return InputSource(fd)
