"""The count of the locks that the processes of runs hold, wherever they hold them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandboxd.jail import syscalls
from sandboxd.warden.runs import lock_count

PRELUDE = """
import fcntl, os, struct, sys, threading
def lock(fd, at=0, kind=fcntl.F_WRLCK):
    fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi4x", kind, 0, 2 * at, 1, 0))
def memory():
    return os.memfd_create("locks")
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""
OWN_TABLE = """
import ctypes
def other():
    assert ctypes.CDLL(None, use_errno=True).unshare(0x400) == 0
    fd = memory()
    lock(fd), lock(fd, 1)
    locked.set()
    threading.Event().wait()
locked = threading.Event()
threading.Thread(target=other, daemon=True).start()
locked.wait()
"""

PROGRAMS = {
    "fcntl": ("fd = memory()\nfor at in range(5): lock(fd, at)", 5),
    "two files": ("one, two = memory(), memory()\nlock(one), lock(two), lock(two, 1)", 3),
    "flock": ("fd = memory()\nfcntl.flock(fd, fcntl.LOCK_EX)", 1),
    "a descriptor that is no longer there": ("fd = memory()\nlock(fd)\nos.close(fd)", 0),
    "another thread of the same files": (
        "fd = memory()\nlock(fd)\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()", 1,
    ),
    "a thread with files of its own": (OWN_TABLE, 2),
}  # fmt: skip


@contextmanager
def holding(program: str) -> Iterator[int]:
    """A process that has done `program`; its pid."""
    command = [sys.executable, "-c", f"{PRELUDE}\n{program}\nready()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process.pid
        finally:
            process.kill()


@contextmanager
def group(*pids: int) -> Iterator[str]:
    """A directory that names its members as that of a cgroup."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        yield directory


def number_of(pid: int) -> int:
    """The locks of a process."""
    return sum(text.count("\nlock:") for text in lock_count.file_locks(pid))


@pytest.mark.parametrize("name", PROGRAMS)
def test_locks_of_a_process_are_counted(name: str) -> None:
    program, number = PROGRAMS[name]
    with holding(program) as pid:
        assert number_of(pid) == number


def test_locks_are_counted_once_for_each_thread_where_the_kernel_cannot_compare_their_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def have_same_files(*_: int) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(syscalls, "have_same_files", have_same_files)
    with holding(OWN_TABLE) as pid:
        assert number_of(pid) == 2
    with holding(PROGRAMS["another thread of the same files"][0]) as pid:
        assert number_of(pid) == 2


def test_only_the_run_that_holds_more_than_it_may_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "LOCKS_MAX", 3)
    few = "fd = memory()\nfor at in range(3): lock(fd, at)"
    many = "two = memory()\nlock(two)"
    with (
        holding(few) as one, holding(few) as other, holding(many) as more,
        group(one) as within, group(other, more) as above,
    ):  # fmt: skip
        assert lock_count.count_locks({"1.1": within}) == {}
        assert lock_count.count_locks({"1.1": within, "2.1": above}) == {"2.1": 4}


def test_locks_on_the_inode_of_all_eventfds_have_a_bound_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "ANONYMOUS_LOCKS_MAX", 1)
    with holding("fd = os.eventfd(0)\nlock(fd), lock(fd, 1)") as pid, group(pid) as directory:
        assert lock_count.count_locks({"1.1": directory}) == {"1.1": 2}
    with holding("fd = memory()\nlock(fd), lock(fd, 1)") as pid, group(pid) as directory:
        assert lock_count.count_locks({"1.1": directory}) == {}


def test_runs_and_processes_that_have_ended_meanwhile_have_no_locks() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert number_of(process.pid) == 0
    with group(process.pid) as directory:
        assert lock_count.count_locks({"1.1": directory, "1.2": "/nonexistent"}) == {}


def test_busy_process_is_looked_at_before_idle_ones_with_many_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "LOCKS_MAX", 0)
    looked: list[int] = []
    file_locks = lock_count.file_locks

    def noted(pid: int) -> Iterator[str]:
        looked.append(pid)
        yield from file_locks(pid)

    monkeypatch.setattr(lock_count, "file_locks", noted)
    busy = "fd = memory()\nwhile os.times().user < 0.3: pass\nlock(fd)"
    with holding("files = [memory() for _ in range(99)]") as idle, holding(busy) as pid:
        order = (idle, pid) if os.getpid() % 2 else (pid, idle)
        with group(*order) as directory:
            assert lock_count.count_locks({"1.1": directory}) == {"1.1": 1}
    assert looked == [pid]
