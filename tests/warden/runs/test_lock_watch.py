"""The watch over the locks of runs: when it counts, and what becomes of a run that has too many."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sandboxd.errors import StageError
from sandboxd.jail.cgroup import Group
from sandboxd.warden.job_process import JobSpec
from sandboxd.warden.runs import run_watch
from sandboxd.warden.runs.lock_watch import LockMemory, LockWatch
from sandboxd.warden.runs.run_watch import LOOK_S, STEP
from sandboxd.warden.runs.worker import Worker
from sandboxd.warden.slots.slots import Slot
from sandboxd.warden.uid_lease import UidLease
from sandboxd.wire import messages

from ...waiting import until


class Memory(LockMemory):
    """The memory of a kernel of the test's own."""

    def __init__(self) -> None:
        self.size, self.anonymous = 0, False

    def bytes(self) -> int:
        return self.size

    def is_urgent(self) -> bool:
        return self.anonymous


class Clock:
    """The time of the test's own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class World:
    """A watch with one run, whose shim listens, and the counts that it has begun."""

    def __init__(self, directory: str, clock: Clock) -> None:
        path = Path(directory, "runs", "3")
        path.mkdir(parents=True)
        self.shim = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.shim.bind(str(path / "control"))
        self.shim.listen(4)
        self.shim.setblocking(False)
        self.clock, self.memory = clock, Memory()
        self.process = subprocess.Popen(["sleep", "60"])
        slot = Slot(7, 7, directory, "session", UidLease(7, -1))
        self.run = Worker(self.process.pid, slot, 3, Group({"pids": "/nonexistent/7.3"}))
        self.helper = Worker(1, slot)
        self.warm = Worker(1, slot, None, Group({"pids": "/nonexistent/7.2"}))
        self.counts: list[tuple[JobSpec, Callable[[Any], None]]] = []
        self.is_full = False
        self.watch = LockWatch(self.begin, lambda: [self.run, self.helper, self.warm], self.memory)

    def begin(
        self, name: str, work: Callable[[], Any], done: Callable[[Any], None], keep: Sequence[int]
    ) -> None:
        if self.is_full:
            raise StageError("fork", "no process can be made", 11)
        assert isinstance(work, JobSpec) and not keep
        self.counts.append((work, done))

    def look(self, after_s: float = LOOK_S) -> int:
        """Look once more; how many counts have been begun."""
        self.clock.now += after_s
        self.watch.maintain()
        return len(self.counts)

    def request(self) -> dict[str, Any] | None:
        """The next request that the shim has got."""
        try:
            sock, _ = self.shim.accept()
        except BlockingIOError:
            return None
        with sock:
            return messages.receive(sock)[0]

    def close(self) -> None:
        self.shim.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    clock = Clock()
    monkeypatch.setattr(run_watch, "time", clock)
    with tempfile.TemporaryDirectory() as directory:
        world = World(directory, clock)
        yield world
        world.close()


def test_nothing_is_counted_while_the_memory_does_not_grow(world: World) -> None:
    world.memory.size = STEP - 1
    assert world.look() == world.look() == 0
    assert world.watch.due_in() == pytest.approx(LOOK_S)


def test_runs_are_counted_once_the_memory_has_grown(world: World) -> None:
    world.memory.size = STEP
    assert world.look() == 1
    work, _ = world.counts[0]
    assert work.arguments == {"groups": {"7.3": "/nonexistent/7.3"}}
    assert world.look() == 1, "a count is under way"


def test_next_look_is_soon_while_the_memory_grows_fast(world: World) -> None:
    world.memory.size = run_watch.FAST
    world.look()
    assert world.watch.due_in() == pytest.approx(run_watch.SOON_S)
    assert world.look(run_watch.SOON_S) == 0
    assert world.watch.due_in() == pytest.approx(LOOK_S)


def test_slow_growth_adds_up(world: World) -> None:
    for _ in range(8):
        world.memory.size += STEP // 8
        counts = world.look()
    assert counts == 1


def test_count_that_finds_no_run_makes_the_present_memory_the_base(world: World) -> None:
    world.memory.size = STEP
    world.look()
    world.counts[0][1]({})
    assert world.look(60) == 1
    world.memory.size = 2 * STEP
    assert world.look() == 2


def test_base_falls_with_the_memory(world: World) -> None:
    world.memory.size = 10 * STEP
    world.look()
    world.counts[0][1]({})
    world.memory.size = STEP
    assert world.look(60) == 1
    world.memory.size = 2 * STEP
    assert world.look() == 2


def test_long_count_without_a_result_is_followed_by_a_pause(world: World) -> None:
    world.memory.size = STEP
    world.look()
    world.clock.now += 2
    world.counts[0][1]({})
    world.memory.size = 9 * STEP
    assert world.look(run_watch.PAUSE_SHARE * 2 - 1) == 1
    assert world.look(2) == 2


def test_run_over_the_limit_is_ended_by_its_shim(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.memory.size = STEP
    world.look()
    world.counts[0][1]({"7.3": 123456})
    assert world.request() == {"op": "limit", "name": "locks"}
    assert "locks.held" in caplog.text
    assert world.process.poll() is None
    assert world.look() == 2, "the memory is as it was: the run must be counted again"


def test_run_whose_shim_does_not_end_it_is_killed(world: World) -> None:
    world.memory.size = STEP
    for number, after_s in enumerate((LOOK_S, LOOK_S, run_watch.END_S + 1)):
        assert world.look(after_s) == number + 1
        world.counts[-1][1]({"7.3": 123456})
    assert world.process.wait() == -9


def test_run_whose_shim_does_not_listen_is_killed(world: World) -> None:
    world.shim.close()
    world.memory.size = STEP
    world.look()
    world.counts[0][1]({"7.3": 123456})
    assert world.process.wait() == -9


def test_run_that_was_over_the_limit_once_is_not_killed_for_it_later(world: World) -> None:
    world.memory.size = STEP
    for over in ({"7.3": 123456}, {}, {"7.3": 123456}):
        world.look(60)
        world.counts[-1][1](over)
        world.memory.size += STEP
    assert world.process.poll() is None


@pytest.mark.parametrize("fails", ["the job", "the fork"])
def test_count_that_fails_is_made_again(world: World, fails: str) -> None:
    world.memory.size = STEP
    world.is_full = fails == "the fork"
    world.look()
    if fails == "the job":
        world.counts.pop()[1](None)
    world.is_full = False
    assert world.look() == 0
    assert world.look(run_watch.RETRY_S) == 1


def test_lock_on_the_inode_of_all_eventfds_has_the_runs_counted_now_and_then(world: World) -> None:
    world.memory.anonymous = True
    assert world.look() == 1
    world.counts[0][1]({})
    assert world.look() == 1
    assert world.look(run_watch.RETRY_S) == 2


LOCKS = """
import fcntl, os, sys
fd = os.eventfd(0) if {anonymous} else os.memfd_create("locks")
fcntl.{act}(fd, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("act", ["flock", "lockf"])
@pytest.mark.parametrize("anonymous", [True, False])
def test_kernel_says_that_somebody_holds_a_lock_on_the_inode_of_all_eventfds(
    act: str, anonymous: bool
) -> None:
    memory = LockMemory()
    program = LOCKS.format(act=act, anonymous=anonymous)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"locked\n"
        until(lambda: memory.is_urgent() is anonymous)  # an attack of other tests has one, too
        process.kill()
    memory.close()


def test_memory_is_that_of_the_slab_where_the_kernel_shows_it(tmp_path: Path) -> None:
    (tmp_path / "slab_size").write_text("192\n")
    (tmp_path / "total_objects").write_text("252 N0=200 N1=52\n")
    memory = LockMemory(str(tmp_path))
    assert memory.bytes() == 252 * 192
    memory.close()


def test_memory_is_that_of_all_objects_where_the_kernel_shows_no_slab(tmp_path: Path) -> None:
    memory = LockMemory(str(tmp_path))
    assert memory.path == "/proc/meminfo"
    assert memory.bytes() > 0
    memory.close()
