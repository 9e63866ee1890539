"""The other sandboxes of this host, and a bare process, each running `sh -c true`.

posix_spawn is the cheapest way of Python to start a program, so the starter adds little to what is
measured.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

COMMAND = ("/bin/sh", "-c", "true")
BARE, UNSHARE, BWRAP, NSJAIL = "bare process", "unshare, five namespaces", "bubblewrap", "nsjail"
PROGRAMS = {UNSHARE: "unshare", BWRAP: "bwrap", NSJAIL: "nsjail"}

Act = Callable[[], object]
"""One measured act."""

_OPTIONS = {
    UNSHARE: ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork"],
    BWRAP: [
        "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs",
        "/tmp",
    ],
    # Its limits of memory and time are left at their defaults, as those of bubblewrap are.
    NSJAIL: ["-Mo", "-Q", "--chroot", "/", "--user", "65534", "--group", "65534", "--"],
}  # fmt: skip


def others() -> dict[str, Act]:
    """The bare process and the installed sandboxes."""
    acts: dict[str, Act] = {BARE: lambda: spawn(COMMAND)}
    for name, program in PROGRAMS.items():
        if path := shutil.which(program):
            acts[name] = _sandbox((path, *_OPTIONS[name], *COMMAND))
    return acts


def absent() -> list[str]:
    """The names of the sandboxes that are not installed."""
    return [name for name, program in PROGRAMS.items() if shutil.which(program) is None]


def _sandbox(command: tuple[str, ...]) -> Act:
    return lambda: spawn(command)


def spawn(command: tuple[str, ...]) -> None:
    """Run a program to its end. Raises RuntimeError when it fails."""
    null = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=null)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {status}")
