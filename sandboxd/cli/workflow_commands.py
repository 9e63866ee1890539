"""Workflow commands: lines such as `::set-env name=A::B` in the output of a step, which a CI system
of GitHub's form carries out.

Some systems let them set variables and directories of later steps on the host. So the output of a
program is between `::stop-commands::TOKEN` and `::TOKEN::`, and no command in it is carried out.
The program does not see this token.

The runner reads the standard output and the standard error of a step by one thread each, and keeps
the order of neither beside the other one. So both lines go to the stream of the log that has the
output. Where a script captures or pipes the output, nobody knows whether and when it comes to the
log: commands are stopped by the log's own streams, up to the end of the step, and the output has no
line of this command.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping

from .ancestors import first_process

MARKS = (
    "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_STATE",
    "GITHUB_EVENT_PATH", "GITHUB_ACTIONS",
)  # fmt: skip
"""Variables of a system that reads workflow commands. The first ones name files of one step; the
runner of GitHub has the last one itself."""

_MEMORY_DEVICES = 1
"""The major number of /dev/null and the like."""

Stream = tuple[int, int]
"""A pipe, a socket or a terminal that somebody reads, by device and inode."""


def is_read(environ: Mapping[str, str]) -> bool:
    """A command with the environment `environ` belongs to a step of such a system."""
    return any(environ.get(name) for name in MARKS)


def stop_and_end() -> tuple[str, str]:
    """The lines before and behind the output of a program."""
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}", f"::{token}::"


def stream(descriptor: int | str) -> Stream | None:
    """The stream that a descriptor writes to; None: a file or /dev/null, or it is closed."""
    try:
        status = os.stat(descriptor)
    except OSError:
        return None
    is_terminal = stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) != _MEMORY_DEVICES
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or is_terminal:
        return status.st_dev, status.st_ino
    return None


def log_streams(environ: Mapping[str, str]) -> dict[Stream, str]:
    """The streams that the system reads as the log of the step, each with a path to write to: those
    of the step's first process, which a script has begun with."""
    mark = next(name for name in MARKS if environ.get(name))
    pid = first_process(environ, mark)
    paths = [f"/proc/{pid}/fd/{descriptor}" for descriptor in (1, 2)]
    return {one: path for path in paths if (one := stream(path))}


def write_line(path: str, text: str) -> None:
    """Write a line to a stream of another process. Raises OSError when it cannot be opened."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        os.set_blocking(descriptor, True)
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)
