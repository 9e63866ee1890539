"""The count of the locks that the processes of runs hold, wherever they hold them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sandboxd.jail import syscalls
from sandboxd.warden.runs import lock_count, turns

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
    "several descriptors of one file": (
        "fd = memory()\nfor at in range(3): lock(fd, at)\nfcntl.flock(fd, fcntl.LOCK_EX)\n"
        "more = [os.open(f'/proc/self/fd/{fd}', os.O_RDWR) for _ in range(9)]", 4,
    ),
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


def over(groups: dict[str, str]) -> dict[str, int]:
    """The runs that a count without a bound names."""
    result = lock_count.count_locks(groups, 1 << 30)
    assert not result["unclear"] or result["over"]
    return dict(result["over"])


def number_of(pid: int) -> int:
    """The locks of a process."""
    tables = [lock_count._table(pid, task) for task in lock_count._tasks(pid)]
    return sum(locks for table in tables for _, _, locks in table)


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
        assert over({"1.1": within}) == {}
        assert over({"1.1": within, "2.1": above}) == {"2.1": 4}


def test_locks_on_the_inode_of_all_eventfds_have_a_bound_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "ANONYMOUS_LOCKS_MAX", 1)
    with holding("fd = os.eventfd(0)\nlock(fd), lock(fd, 1)") as pid, group(pid) as directory:
        assert over({"1.1": directory}) == {"1.1": 2}
    with holding("fd = memory()\nlock(fd), lock(fd, 1)") as pid, group(pid) as directory:
        assert over({"1.1": directory}) == {}


def test_runs_and_processes_that_have_ended_meanwhile_have_no_locks() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert number_of(process.pid) == 0
    with group(process.pid) as directory:
        assert over({"1.1": directory, "1.2": "/nonexistent"}) == {}


def test_busy_process_is_looked_at_before_idle_ones_with_many_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "LOCKS_MAX", 0)
    looked: list[int] = []
    table = lock_count._table

    def noted(pid: int, task: int) -> Iterator[tuple[int, str, int]]:
        looked.append(pid)
        yield from table(pid, task)

    monkeypatch.setattr(lock_count, "_table", noted)
    busy = "fd = memory()\nwhile os.times().user < 0.3: pass\nlock(fd)"
    with holding("files = [memory() for _ in range(99)]") as idle, holding(busy) as pid:
        order = (idle, pid) if os.getpid() % 2 else (pid, idle)
        with group(*order) as directory:
            assert over({"1.1": directory}) == {"1.1": 1}
    assert looked[0] == pid


def test_run_over_its_limit_does_not_keep_another_one_from_being_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "LOCKS_MAX", 8)
    large = f"{MANY_LOCKS}\nlock(last, 9)"
    with (
        holding(MANY_LOCKS) as sacrifice, holding(f"{COPIES}\n{large}") as pid,
        group(sacrifice) as one, group(pid) as other,
    ):  # fmt: skip
        groups = {"1.1": one, "2.1": other}
        assert over(groups) == {"1.1": 9, "2.1": 10}
        cut_off = lock_count.count_locks(groups, 2000)
    assert cut_off == {"over": {"1.1": 9}, "unclear": ["2.1"]}


COPIES = "copied = memory()\nfor _ in range(3000): os.dup(copied)"
MANY_LOCKS = "last = memory()\nfor at in range(9): lock(last, at)"


def test_many_copies_of_a_descriptor_do_not_delay_the_count_of_another_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "LOCKS_MAX", 8)
    with (
        holding(COPIES) as decoy, holding(MANY_LOCKS) as pid,
        group(decoy) as one, group(pid) as other,
    ):  # fmt: skip
        result = lock_count.count_locks({"1.1": one, "2.1": other}, 2000)
    assert result == {"over": {"2.1": 9}, "unclear": ["1.1"]}


def test_run_that_hides_its_locks_behind_copies_of_a_descriptor_is_unclear_until_all_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "LOCKS_MAX", 8)
    with holding(f"{COPIES}\n{MANY_LOCKS}") as pid, group(pid) as directory:
        groups = {"1.1": directory}
        assert lock_count.count_locks(groups, 1000) == {"over": {}, "unclear": ["1.1"]}
        assert over(groups) == {"1.1": 9}


def test_process_with_locks_is_seen_early_beside_others_with_copies_of_a_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "LOCKS_MAX", 8)
    with ExitStack() as stack:
        programs = (COPIES, COPIES, COPIES, MANY_LOCKS)
        pids = [stack.enter_context(holding(program)) for program in programs]
        directory = stack.enter_context(group(*pids))
        assert lock_count.count_locks({"1.1": directory}, 5000)["over"] == {"1.1": 9}


def test_run_with_as_many_descriptors_as_no_program_has_is_over_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "RUN_MAX", 2048)
    with holding(f"{COPIES}\nlock(copied)") as pid, group(pid) as directory:
        assert over({"1.1": directory}) == {"1.1": 1}


def test_locks_with_a_long_description_take_as_many_units_as_it_takes_the_kernel() -> None:
    program = "fd = memory()\nfor at in range(500): lock(fd, at)"
    with holding(f"{program}\nfor _ in range(200): os.dup(fd)") as pid, group(pid) as directory:
        assert lock_count.count_locks({"1.1": directory}, 2000)["unclear"] == ["1.1"]


@contextmanager
def one_descriptor() -> Iterator[None]:
    """This process may open one descriptor more."""
    lowest = os.dup(0)
    os.close(lowest)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_run_whose_descriptors_cannot_be_read_for_want_of_own_ones_is_unclear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "LOCKS_MAX", 8)
    with holding(MANY_LOCKS) as pid, group(pid) as directory:
        with one_descriptor():
            result = lock_count.count_locks({"1.1": directory}, 1 << 30)
        assert result == {"over": {}, "unclear": ["1.1"]}
        assert over({"1.1": directory}) == {"1.1": 9}


EPOLL = """
import select
epoll, copied = select.epoll(), os.eventfd(0)
for at in range(500, 900):
    epoll.register(os.dup2(copied, at))
fcntl.flock(epoll, fcntl.LOCK_SH)
"""


def test_epoll_with_very_many_registrations_costs_a_count_units_and_hides_no_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_count, "_TEXT_MAX", 4096)
    with holding(EPOLL) as pid:
        sizes = [len(text) for text, _ in lock_count._texts(pid, pid)]
        assert max(sizes) == 4096, "no more is in memory"
        units = {inode: units for units, inode, _ in lock_count._table(pid, pid)}
        assert units[lock_count.anonymous_inode()] >= 400 * 64 // lock_count._UNIT
        assert number_of(pid) == 1
