"""The unprivileged user of the host who runs a CI system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sandboxd.jail.idmap import Ids

from ...processes import descendants, title
from ...waiting import PATIENCE_S, until
from ..daemon import Daemon, sessions_of

JOB_S = 120.0
"""Seconds that a job may take on a busy machine."""

GIT = ("git", "-c", "user.name=ci", "-c", "user.email=ci@example", "-c", "init.defaultBranch=main")


class CiUser:
    """The user's home and commands."""

    def __init__(self, daemon: Daemon, home: Path, ids: Ids) -> None:
        self.daemon, self.home, self._ids = daemon, home, ids
        self.paths: list[str] = [f"{home}/bin"]
        self._begun: list[subprocess.Popen[str]] = []

    def environ(self, **variables: str) -> dict[str, str]:
        """The environment of the user's commands."""
        return {
            "HOME": str(self.home), "PATH": ":".join([*self.paths, "/usr/bin", "/bin"]),
            "LANG": "C.UTF-8", "USER": "ci", "LOGNAME": "ci", "SANDBOXD_IMAGE": "c",
            "SANDBOXD_SOCKET": f"{self.daemon.folder}/api.sock",
        } | variables  # fmt: skip

    def begin(
        self, command: Sequence[str], place: Path, log: Path | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        """Start a command in the directory `place`; its output and errors are one stream, or go to
        the file `log`."""
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("a")) if log else subprocess.PIPE
            process = subprocess.Popen(
                command, cwd=place, env=self.environ(**variables), user=self._ids.uid,
                group=self._ids.gid, extra_groups=[], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        self._begun.append(process)
        return process

    def call(self, command: Sequence[str], place: Path, **variables: str) -> tuple[int, str]:
        """A command to its end: its exit status and output."""
        process = self.begin(command, place, None, **variables)
        output, _ = process.communicate(timeout=JOB_S)
        return process.returncode, output

    def repository(self, place: Path) -> Path:
        """Make a git repository of the files in a directory of the user."""
        for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "one")):
            status, output = self.call([*GIT, *words], place)
            assert status == 0, output
        return place

    def end(self) -> None:
        """End all that the user has started."""
        for process in self._begun:
            kill(process)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=PATIENCE_S)

    def wait_for(self, process: subprocess.Popen[str], text: str) -> str:
        """The output of a process up to the line with `text`, which comes before its end."""
        lines = ""
        assert process.stdout
        for line in process.stdout:
            lines += line
            if text in line:
                return lines
        raise AssertionError(f"the output ends without {text!r}:\n{lines}")

    def nothing_left(self) -> None:
        """Wait until the daemon has no session any more."""
        until(lambda: sessions_of(self.daemon.state) == {})


def kill(process: subprocess.Popen[str], only: str = "") -> None:
    """SIGKILL to a process and all that it has started; with `only` to those alone whose command
    line has this text."""
    pids = [process.pid, *descendants(process.pid)]
    for pid in pids:
        with contextlib.suppress(OSError):
            if only in title(pid).replace("\0", " "):
                os.kill(pid, signal.SIGKILL)
