"""`sandboxd sh`: a shell for the place where a CI system takes one.

The system calls it with a script that it has written. The script runs in the session that
SANDBOXD_SESSION names, or in a new one that ends with the script. In a session with a workspace it
runs in the directory in which it was called. The files through which a step of GitHub's form speaks
with its system (GITHUB_ENV and others) are carried in before and out after it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import stat
from typing import Any, BinaryIO

from ..errors import ConfigError
from .connection.client import Client
from .connection.holder import hold_named
from .connection.references import session_facts
from .connection.temporary_session import (
    connect,
    create,
    deleted,
    end_at_signals,
    resources,
    step_seconds,
)
from .connection.turn import TurnWait
from .console.console_printer import ConsolePrinter
from .console.program_input import source
from .parent_watch import end_with_parent
from .reporter import Reporter
from .step.carried_files import ROOM, SCRIPT, carry_in, carry_out, new_place
from .step.ci_system import system_environment
from .step.passed_on import directories, environment, inside_directories
from .step.step_environment import CARRIED, PASSED, READ_ONLY, listed, step_variables
from .workspace_place import place_of, use_workspace


def main(args: argparse.Namespace) -> int:
    """Run the script; its exit status."""
    end_at_signals()
    end_with_parent()
    script = _script(args)
    ref = args.session or os.environ.get("SANDBOXD_SESSION", "")
    image = args.image or os.environ.get("SANDBOXD_IMAGE", "shell")
    say, config = Reporter(quiet=True, as_json=False), resources(args)
    workspace = args.workspace or os.environ.get("SANDBOXD_WORKSPACE", "")
    if workspace and not ref:
        use_workspace(config, workspace, say)
    turn = None if args.wait is None else TurnWait(Reporter(False, False), args.wait)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(connect(args.socket, stack, say, image)))
        if ref:
            ref = hold_named(client, ref)
        else:
            ref = create(client, image, config, turn)
            stack.enter_context(deleted(client, ref))
        facts = session_facts(client, ref)
        files = {
            name: stack.enter_context(_opened(os.environ[name], name in READ_ONLY))
            for name in CARRIED
            if os.environ.get(name)
        }
        return _Step(args, client, facts, say, files).run(script, config["environ"], turn)


def _script(args: argparse.Namespace) -> bytes:
    """The text of the script. Raises ConfigError."""
    if args.text is not None:  # as with bash, the first word behind TEXT is $0
        return os.fsencode(args.text)
    if args.script is None:
        raise ConfigError("no script; write: sandboxd sh SCRIPT [ARG...], or sandboxd sh -c TEXT")
    try:
        with open(args.script, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{args.script}: {error.strerror}") from None


class _Step:
    """One script in one session, with the files that are carried. They stay open while the script
    runs, so it cannot have other files written by a change of their names."""

    def __init__(
        self,
        args: argparse.Namespace,
        client: Client,
        facts: dict[str, Any],
        say: Reporter,
        files: dict[str, BinaryIO],
    ) -> None:
        self._args, self._client, self._say = args, client, say
        self._session: str = facts["sessionId"]
        self._outside, self._inside, self._directory = place_of(facts, os.getcwd())
        self._place = new_place()
        self._files = files

    def run(self, script: bytes, environ: dict[str, str], turn: TurnWait | None) -> int:
        """Carry the files in, run the script, and carry the files out; the script's status."""
        files = {name: file.read() for name, file in self._files.items()}
        carry_in(self._client, self._session, self._place, files | {SCRIPT: script})
        inside = {name: f"{self._place}/{name}" for name in self._files}
        options: dict[str, Any] = {
            "exec": self._command(),
            "environ": self._variables() | inside | environ,
            "timeout": step_seconds("--timeout", self._args.timeout),
        }
        printer = ConsolePrinter(self._client, self._session, options, self._say, turn)
        try:
            return printer.follow(source(None), exec_only=False)
        finally:
            self._carry_out(files)

    def _variables(self) -> dict[str, str]:
        system = system_environment(os.environ)
        return step_variables(os.environ, self._outside, self._inside, system)

    def _command(self) -> str:
        letters = "".join(letter for letter in "exu" if getattr(self._args, letter))
        flags = [f"-{letters}"] if letters else []
        words = ["exec", "bash", *flags, f"{self._place}/{SCRIPT}", *self._args.words]
        own = ":".join(inside_directories(os.environ.get("PATH", "")))
        path = f"export PATH={shlex.quote(own)}:$PATH; " if own else ""
        return f"cd {shlex.quote(self._directory)} && {path}{shlex.join(words)}"

    def _carry_out(self, before: dict[str, bytes]) -> None:
        names = [name for name in self._files if name not in READ_ONLY]
        after = carry_out(self._client, self._session, self._place, names)
        for name in [name for name in names if name not in after]:
            self._say.warning(
                f"{name}: not passed on: the script has left no file of this name, or more than "
                f"{ROOM:,} bytes in all such files together"
            )
        for name, content in after.items():
            if content != before[name]:
                self._files[name].seek(0)
                self._files[name].truncate()
                self._files[name].write(self._passed_on(name, before[name], content))

    def _passed_on(self, name: str, before: bytes, after: bytes) -> bytes:
        """The content of a file for the CI system, after the script."""
        if name not in ("GITHUB_ENV", "GITHUB_PATH"):
            return after
        old = before if after.startswith(before) else b""
        text = after.removeprefix(old).decode("utf-8", "surrogateescape")
        if name == "GITHUB_ENV":
            passed, left_out = environment(text, listed(os.environ.get(PASSED, "")))
        else:
            passed, left_out = directories(text, self._outside)
        if left_out:
            names = ", ".join(dict.fromkeys(left_out))
            self._say.warning(
                f"{name}: not passed on, as systems or the host could misread it: {names}"
            )
        return old + passed.encode("utf-8", "surrogateescape")


def _opened(path: str, read_only: bool) -> BinaryIO:
    """A file of the CI system, which is made if the step may write it. Raises ConfigError."""
    flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ConfigError(f"{path}: a regular file is needed")
        return open(fd, "rb" if read_only else "r+b")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
