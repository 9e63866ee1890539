"""The jails of a daemon that wait for runs: prepared ones, warm ones, and the spawner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import httpx
import psutil

from ..waiting import until
from .daemon import Daemon, Outcome, run

WARM = "[runs]\nprepared = 2\nwarm_s = 60\n"
COLD = "[runs]\nprepared = 2\nwarm_s = 0\n"
NONE = "[runs]\nprepared = 0\nwarm_s = 0\n"


def family(daemon: Daemon, title: str) -> list[psutil.Process]:
    """The processes below the warden whose title begins so, shims and inits among them."""
    assert daemon.process
    below = psutil.Process(daemon.process.pid).children(recursive=True)
    return [one for one in below if title_of(one).startswith(f"sandboxd: {title}")]


def title_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, IndexError):
        return process.cmdline()[0]
    return ""


def prepared(daemon: Daemon) -> list[psutil.Process]:
    """The shims that wait for their first run, once there are two of them with their inits."""
    return until(lambda: _complete(daemon))


def _complete(daemon: Daemon) -> list[psutil.Process] | None:
    processes = family(daemon, "prepared")
    pids = {one.pid for one in processes}
    try:
        shims = [one for one in processes if one.ppid() not in pids]
    except psutil.NoSuchProcess:  # one has just ended
        return None
    return shims if len(processes) == 4 and len(shims) == 2 else None


def warm(daemon: Daemon) -> psutil.Process:
    """The one warm shim."""

    def look() -> psutil.Process | None:
        shims = [one for one in family(daemon, "shim") if title_of(one).endswith("warm")]
        return shims[0] if len(shims) == 1 else None

    return until(look)


def ended(*processes: psutil.Process) -> bool:
    """All of them have ended."""
    return all(_is_over(one) for one in processes)


def _is_over(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it has just ended
        return True


Start = Callable[[str], tuple[Daemon, httpx.Client]]


def count(http: httpx.Client) -> Outcome:
    """A run that leaves a trace each time that it begins."""
    outcome = run(http, "kept", {"exec": "echo begun >> begun; wc -l < begun"})
    assert outcome.exits[-1] == 0
    return outcome
