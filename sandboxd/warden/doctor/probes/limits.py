"""The probes of limits. Cgroups: each controller by itself, in a group that is removed again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from ....config.settings import STEP_LIMITS
from ....errors import StageError
from ....host.descriptors import readable
from ....jail import identity
from ....jail.cgroup import INIT_TASKS, Group
from ....jail.stage import expect
from ....model import MIB
from ...fork import die_with
from ...runs import connection_count, lock_count, lock_watch
from ...runs.cgroups import Hierarchy
from . import ProbeContext

SECONDS = 20.0
"""The longest time of one act that a kernel does at once; see guarantees.SECONDS."""

_PREFIX = "probe-"
_TOUCHED = 8 * MIB


@contextlib.contextmanager
def own_group(host: ProbeContext, name: str) -> Iterator[Group]:
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


def memory(host: ProbeContext) -> str:
    """The memory that a member touches is counted; the limit is written and read back."""
    with own_group(host, "memory") as group, _member(group, _touch) as member:
        group.limit(replace(STEP_LIMITS, memory=64 * MIB))
        member.answer()
        counted = group.files.memory_in_use() >= _TOUCHED
        expect("memory", "counted what was used", counted, True)
        return "cgroup v2" if group.v2 else "cgroup v1"


def processes(host: ProbeContext) -> str:
    """One process more than the limit is refused."""
    with own_group(host, "pids") as group:
        group.limit(replace(STEP_LIMITS, pids=1))
        with _member(group, lambda: _forks(INIT_TASKS + 1)) as member:
            expect("pids", "one process too many", member.answer(), "refused")
        return ""


def cpu(host: ProbeContext) -> str:
    """A loop is held back when its share is used up."""
    with own_group(host, "cpu") as group:
        group.limit(STEP_LIMITS)
        # A fifth of each 5 ms, not of a run's 100 ms: the kernel counts at the end of a period.
        group.files.set_cpu_quota(1000, 5000)
        with _member(group, _burn):
            _until(lambda: group.files.throttled() > 0, "a loop was not held back")
        return ""


def swap(host: ProbeContext) -> str:
    """Memory beyond the limit cannot go to swap: another wall than memory's own."""
    with own_group(host, "swap") as group:
        group.limit(STEP_LIMITS)
        return "" if group.files.can_limit_swap() else "there is none"


def kill(host: ProbeContext) -> str:
    """A whole group ends at once, a stopped process too."""
    with own_group(host, "kill") as group:
        with _member(group, _stop):
            _until(lambda: bool(group.members()), "nobody joined the group")
            group.kill()
            _until(lambda: not group.members(), "a stopped process was not killed")
        return ""


def peaks(host: ProbeContext) -> str:
    """The most that was used at a time: for the usage in verdicts."""
    with own_group(host, "peaks") as group:
        group.limit(STEP_LIMITS)
        with _member(group, lambda: _touch() + _forks(1)) as member:
            member.answer()
            counters = group.counters()
        expect("peaks", "of memory", counters.memory_peak >= _TOUCHED, True)
        expect("peaks", "of processes", counters.pids_peak, 2 - INIT_TASKS)
        return ""


def file_locks(host: ProbeContext) -> str:
    """The locks that a process of another user holds are seen, as those of programs are counted."""
    file = os.memfd_create("locks")

    def lock() -> str:
        identity.apply(host.uid, host.uid)
        fcntl.lockf(file, fcntl.LOCK_EX)
        return "locked"

    try:
        with _child(lock) as child:
            child.answer()
            name = f":{os.fstat(file).st_ino} "
            seen = any(name in text for text in lock_count.file_locks(child.pid))
            expect("locks", "that of another process was seen", seen, True)
    finally:
        os.close(file)
    memory = lock_watch.LockMemory()
    memory.close()
    return f"watched by {memory.path}"


def connections(_: ProbeContext) -> str:
    """A connection that nobody has accepted is seen."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        try:
            before = connection_count.connections()
            with socket.create_connection(server.getsockname()):
                after = connection_count.connections()
        except OSError as error:
            text = f"the kernel names no sockets: {error.strerror}"
            raise StageError("connections", text) from None
    expect("connections", "one waits", after.waiting > before.waiting, True)
    return ""


@dataclass(frozen=True, slots=True)
class _TrialChild:
    """A process that a trial looks at; `answer` waits for its act and returns the text of it."""

    pid: int
    answer: Callable[[], str]


def _member(group: Group, act: Callable[[], str]) -> AbstractContextManager[_TrialChild]:
    """A child in the group."""

    def join_and_act() -> str:
        group.join()
        return act()

    return _child(join_and_act)


@contextlib.contextmanager
def _child(act: Callable[[], str]) -> Iterator[_TrialChild]:
    """A child that does `act`, once the block has begun, and stays until its end."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            os.write(writing, act().encode() + b"\n")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        yield _TrialChild(pid, lambda: _answer(reading))
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _answer(reading: int) -> str:
    if not readable(reading, wait_s=SECONDS):
        raise StageError("trial", "the child of a trial does nothing")
    return os.read(reading, 4096).decode().strip()


def _touch() -> str:
    global _memory
    _memory = bytearray(_TOUCHED)
    for at in range(0, _TOUCHED, 4096):
        _memory[at] = 1
    return "touched"


_memory = bytearray()


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
    return "forked"


def _burn() -> str:
    while True:
        pass


def _stop() -> str:
    os.kill(os.getpid(), signal.SIGSTOP)
    return ""


def _until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise StageError("cgroup", otherwise)
        time.sleep(0.002)
