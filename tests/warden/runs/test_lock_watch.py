"""The watch over the locks of runs: when it counts, and what becomes of a run that has too many."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.warden.runs import run_watch
from sandboxd.warden.runs.lock_watch import LockMemory
from sandboxd.warden.runs.run_watch import LOOK_S, STEP, URGENT
from sandboxd.warden.runs.unclear_runs import UNITS

from ...waiting import until
from .watch_world import World


def test_nothing_is_counted_while_the_memory_does_not_grow(world: World) -> None:
    world.memory.size = STEP - 1
    assert world.look() == world.look() == 0
    assert world.watch.due_in() == pytest.approx(LOOK_S)


def test_runs_are_counted_once_the_memory_has_grown(world: World) -> None:
    world.memory.size = STEP
    assert world.look() == 1
    work, _ = world.counts[0]
    assert work.arguments == {"groups": {"7.3": str(world.quota.parent)}, "most": UNITS}
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
    world.answer()
    assert world.look(60) == 1
    world.memory.size = 2 * STEP
    assert world.look() == 2


def test_base_falls_with_the_memory(world: World) -> None:
    world.memory.size = 10 * STEP
    world.look()
    world.answer()
    world.memory.size = STEP
    assert world.look(60) == 1
    world.memory.size = 2 * STEP
    assert world.look() == 2


def test_long_count_without_a_result_is_followed_by_a_pause(world: World) -> None:
    world.memory.size = STEP
    world.look()
    world.clock.now += 2
    world.answer()
    world.memory.size = 4 * STEP
    assert world.look(run_watch.PAUSE_SHARE * 2 - 1) == 1
    assert world.look(2) == 2


def test_pause_after_a_long_count_ends_when_the_memory_grows_fast(world: World) -> None:
    world.memory.size = STEP
    world.look()
    world.clock.now += 2
    world.answer()
    world.memory.size += URGENT
    assert world.look() == 2


@pytest.mark.parametrize("other", ["run of the warm jail", "session of the slot"])
def test_run_that_begins_in_the_group_of_a_counted_one_is_not_ended_for_it(
    world: World, other: str
) -> None:
    world.memory.size = STEP
    world.look()
    if other == "run of the warm jail":
        world.run = replace(world.run, run=4)
    else:
        world.run = replace(world.run, slot=world.slot())
    world.answer({"7.3": 123456})
    assert world.request() is None and world.process.poll() is None


def test_run_that_is_over_the_limit_is_not_killed_for_a_run_before_that_was(world: World) -> None:
    world.memory.size = STEP
    world.look()
    world.answer({"7.3": 123456})
    world.run = replace(world.run, run=4)
    Path(world.directory, "runs", "3").rename(Path(world.directory, "runs", "4"))
    world.look(run_watch.END_S + 1)
    world.answer({"7.3": 123456})
    assert world.request() is not None and world.process.poll() is None


def test_shim_whose_socket_is_full_is_not_waited_for_and_has_its_time(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.memory.size = STEP
    with contextlib.ExitStack() as stack:
        world.fill(stack)
        world.look()
        world.answer({"7.3": 123456})
        assert "locks.killed" not in caplog.text
        world.look(run_watch.END_S + 1)
        world.answer({"7.3": 123456})
    assert world.process.wait() == -9


def test_shim_that_is_at_work_is_sent_few_requests(world: World) -> None:
    world.memory.size = STEP
    for _ in range(20):
        world.look(run_watch.SOON_S)
        world.answer({"7.3": 123456})
    requests = 0
    while world.request():
        requests += 1
    assert 1 <= requests <= 20 * run_watch.SOON_S / run_watch.REPEAT_S + 1


def test_run_over_the_limit_is_ended_by_its_shim(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.memory.size = STEP
    world.look()
    world.answer({"7.3": 123456})
    assert world.request() == {"op": "limit", "name": "locks"}
    assert "locks.held" in caplog.text
    assert world.process.poll() is None
    assert world.look() == 2, "the memory is as it was: the run must be counted again"


def test_runs_over_their_limit_do_not_have_the_warden_count_all_the_time(world: World) -> None:
    world.memory.size = STEP
    world.look()
    world.clock.now += 0.4
    world.answer({"7.3": 123456})
    assert world.look(run_watch.SOON_S) == world.look(run_watch.SOON_S) == 1
    assert world.look(0.4) == 2


def test_run_whose_shim_does_not_end_it_is_killed(world: World) -> None:
    world.memory.size = STEP
    for number, after_s in enumerate((LOOK_S, LOOK_S, run_watch.END_S + 1)):
        assert world.look(after_s) == number + 1
        world.answer({"7.3": 123456})
    assert world.process.wait() == -9


def test_run_whose_shim_does_not_listen_is_killed_unless_it_is_just_over(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.shim.close()
    world.memory.size = STEP
    world.look()
    world.answer({"7.3": 123456})
    assert world.process.poll() is None and "locks.killed" not in caplog.text
    world.look(run_watch.END_S + 1)
    world.answer({"7.3": 123456})
    assert world.process.wait() == -9 and "locks.killed" in caplog.text


def test_run_that_was_over_the_limit_once_is_not_killed_for_it_later(world: World) -> None:
    world.memory.size = STEP
    for over in ({"7.3": 123456}, {}, {"7.3": 123456}):
        world.look(60)
        world.answer(over)
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


def test_lock_of_a_sleeping_program_on_an_eventfd_has_the_runs_counted_less_and_less_often(
    world: World,
) -> None:
    def seconds_to_the_next_count() -> int:
        world.answer()
        counts = len(world.counts)
        return next(waited for waited in itertools.count(1) if world.look(1) > counts)

    world.memory.anonymous = True
    assert world.look() == 1
    assert [seconds_to_the_next_count() for _ in range(5)] == [1, 2, 4, 4, 4]
    world.answer()
    world.memory.size += run_watch.FAST
    counts = len(world.counts)
    assert world.look() == counts + 1, "more locks are made"
    assert [seconds_to_the_next_count() for _ in range(3)] == [1, 2, 4]
    world.answer({"7.3": 65})
    assert world.look() == counts + 5
    assert [seconds_to_the_next_count() for _ in range(2)] == [1, 2]


def test_run_over_the_limit_is_seen_in_seconds_beside_one_that_has_slept_for_long(
    world: World,
) -> None:
    world.memory.anonymous = True
    for _ in range(20):
        world.look(60)
        world.answer()
    counts = len(world.counts)
    assert world.look(4) == counts + 1


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
