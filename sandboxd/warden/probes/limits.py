"""Do cgroups count and hold? Each controller by itself, in a group that is removed again."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...errors import StageError
from ...jail.cgroup import OWN_TASKS, Group
from ...jail.stage import expect
from ...model import MIB, Limits
from ..cgroups import Hierarchy
from ..trial import die_with
from . import Host

SECONDS = 20.0
"""What one thing may take that a kernel does at once; see guarantees.SECONDS."""

_PREFIX = "probe-"
_TOUCHED = 8 * MIB


@contextlib.contextmanager
def own_group(host: Host, name: str) -> Iterator[Group]:
    """A group for one probe, open; all in it is killed and it is removed at the end."""
    if isinstance(host.hierarchy, str):
        raise StageError("cgroup", host.hierarchy)
    group = host.hierarchy.group(f"{_PREFIX}{os.getpid()}-{name}")
    try:
        group.open()
        yield group
    finally:
        group.close()
        group.kill()
        _until(group.remove, "the group cannot be removed")


def tidy(hierarchy: Hierarchy) -> None:
    """Remove what probes that had to be killed have left; their processes died with them."""
    for group in hierarchy.groups():
        if any(os.path.basename(path).startswith(_PREFIX) for path in group.dirs.values()):
            group.kill()
            _until(group.remove, "the group cannot be removed")


def memory(host: Host) -> str:
    """What a member touches is counted; the limit is written and read back."""
    with own_group(host, "memory") as group, _member(group, _touch) as said:
        group.limit(Limits(memory=64 * MIB))
        said()
        used = int(_read(group, "memory.current", "memory/memory.usage_in_bytes"))
        expect("memory", "counted what was used", used >= _TOUCHED, True)
        return "cgroup v2" if group.v2 else "cgroup v1"


def processes(host: Host) -> str:
    """One process more than the limit is refused."""
    with own_group(host, "pids") as group:
        group.limit(Limits(pids=1))
        with _member(group, lambda: _forks(OWN_TASKS + 1)) as said:
            expect("pids", "one process too many", said(), "refused")
        return ""


def cpu(host: Host) -> str:
    """A loop is held back when its share is used up."""
    with own_group(host, "cpu") as group:
        group.limit(Limits())
        _shorten_period(group)
        with _member(group, _burn):
            _until(lambda: _throttled(group) > 0, "a loop was not held back")
        return ""


def swap(host: Host) -> str:
    """Memory beyond the limit cannot go to swap: another wall than memory's own."""
    with own_group(host, "swap") as group:
        group.limit(Limits())
        name = "memory.swap.max" if group.v2 else "memory.memsw.limit_in_bytes"
        limited = os.path.exists(f"{group.dirs['' if group.v2 else 'memory']}/{name}")
        return "" if limited else "there is none"


def kill(host: Host) -> str:
    """A whole group ends at once, a stopped process too."""
    with own_group(host, "kill") as group:
        with _member(group, _stop):
            _until(lambda: bool(group.members()), "nobody joined the group")
            group.kill()
            _until(lambda: not group.members(), "a stopped process was not killed")
        return ""


def peaks(host: Host) -> str:
    """The most that was used at a time: for the usage in verdicts."""
    with own_group(host, "peaks") as group:
        group.limit(Limits())
        with _member(group, lambda: _touch() + _forks(1)) as said:
            said()
            found = group.counters()
        expect("peaks", "of memory", found.memory_peak >= _TOUCHED, True)
        expect("peaks", "of processes", found.pids_peak, 2 - OWN_TASKS)
        return ""


@contextlib.contextmanager
def _member(group: Group, act: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """A process in the group that does `act`, once the block has begun, and stays until its end.

    Calling what is yielded waits for the act and returns its text.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            group.join()
            os.write(writing, act().encode() + b"\n")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        yield lambda: _answer(reading)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _answer(reading: int) -> str:
    if not select.select([reading], [], [], SECONDS)[0]:
        raise StageError("cgroup", "a process in the group does nothing")
    return os.read(reading, 4096).decode().strip()


def _touch() -> str:
    global _kept
    _kept = bytearray(_TOUCHED)
    for at in range(0, _TOUCHED, 4096):
        _kept[at] = 1
    return "touched"


_kept = bytearray()


def _forks(most: int) -> str:
    """Fork up to `most` children, which end when we do; "refused" if one could not be."""
    parent = os.getpid()
    for _ in range(most):
        try:
            if os.fork() == 0:
                die_with(parent)
                signal.pause()
                os._exit(0)
        except BlockingIOError:
            return "refused"
    return "all made"


def _burn() -> str:
    while True:
        pass


def _stop() -> str:
    os.kill(os.getpid(), signal.SIGSTOP)
    return ""


def _read(group: Group, v2: str, v1: str) -> str:
    """A file of the group, `v1` with its controller."""
    controller, _, name = v1.partition("/")
    path = f"{group.dirs['']}/{v2}" if group.v2 else f"{group.dirs[controller]}/{name}"
    return Path(path).read_text()


def _shorten_period(group: Group) -> None:
    """A fifth of each 5 ms instead of the run's 100: the kernel counts at the end of a period."""
    if group.v2:
        Path(group.dirs[""], "cpu.max").write_text("1000 5000")
    else:
        Path(group.dirs["cpu"], "cpu.cfs_quota_us").write_text("1000")
        Path(group.dirs["cpu"], "cpu.cfs_period_us").write_text("5000")


def _throttled(group: Group) -> int:
    """How often members had to wait for the next period (cpu.stat)."""
    words = _read(group, "cpu.stat", "cpu/cpu.stat").split()
    return int(words[words.index("nr_throttled") + 1])


def _until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise StageError("cgroup", otherwise)
        time.sleep(0.002)
