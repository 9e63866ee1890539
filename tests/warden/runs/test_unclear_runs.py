"""Runs with very many descriptors: they are counted at length, and held while the memory grows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.jail.cgroup import Group
from sandboxd.warden.runs.cpu_hold import HELD_US, CpuHolds, end_left
from sandboxd.warden.runs.run_watch import PAUSE_SHARE, RETRY_S, STEP, URGENT
from sandboxd.warden.runs.unclear_runs import GROWTH, HOLD_AT, MOST, UNITS, UnclearRuns
from sandboxd.warden.runs.worker import Worker

from .watch_world import World


def other(world: World, number: int) -> Worker:
    """One more run."""
    group = Group({"pids": f"/nonexistent/7.{number}"})
    return replace(world.run, pid=1, run=number, group=group)


def test_run_of_which_a_count_has_not_seen_all_is_counted_with_a_higher_bound(
    world: World,
) -> None:
    world.memory.size = STEP
    world.look()
    for stage in range(1, 4):
        world.answer(unclear=["7.3"])
        assert world.look(0) == stage + 1
        assert world.counts[-1][0].arguments["most"] == UNITS * GROWTH**stage
    world.answer({"7.3": 123456})
    assert world.request() == {"op": "limit", "name": "locks"}


def test_other_runs_are_counted_while_the_count_of_one_takes_long(world: World) -> None:
    world.others = [other(world, 4)]
    world.memory.size = STEP
    world.look()
    world.answer(unclear=["7.3"])
    assert world.look(0) == 2
    world.memory.size += URGENT
    assert world.look() == 3
    counted = [list(work.arguments["groups"]) for work, _ in world.counts]
    assert counted == [["7.3", "7.4"], ["7.3"], ["7.4"]]


def test_run_that_is_over_its_limit_does_not_keep_others_from_being_counted_at_length(
    world: World,
) -> None:
    world.others = [other(world, number) for number in (4, 5)]
    world.memory.size = STEP
    world.look()
    world.answer({"7.3": 123456}, unclear=["7.5", "7.4"])
    world.look()
    world.counts[1][1]({"over": {"7.5": 123456}, "unclear": ["7.4"]})
    world.look()
    counted = [(list(work.arguments["groups"]), work.arguments["most"]) for work, _ in world.counts]
    assert counted[1] == (["7.5", "7.4"], GROWTH * UNITS)
    assert counted[2] == (["7.3"], UNITS), "its shim is at work"
    assert counted[3] == (["7.4"], GROWTH**2 * UNITS)


def test_counts_at_length_begin_with_the_run_that_was_cut_off(world: World) -> None:
    world.others = [other(world, number) for number in (4, 5)]
    world.memory.size = STEP
    world.look()
    world.answer(unclear=["7.3", "7.4", "7.5"])
    world.look(0)
    world.answer(unclear=["7.5", "7.3", "7.4"])
    world.look(0)
    assert list(world.counts[-1][0].arguments["groups"]) == ["7.5", "7.3", "7.4"]


def test_run_with_many_descriptors_is_held_while_the_memory_grows_and_then_goes_on(
    world: World,
) -> None:
    world.memory.size = STEP
    world.look()
    world.answer(unclear=["7.3"])
    world.look(0)
    assert world.quota.read_text() == "100000 100000\n", "the memory does not grow"
    world.memory.size += HOLD_AT
    world.look()
    assert world.quota.read_text() == f"{HELD_US} 100000"
    world.answer()
    assert world.quota.read_text() == "100000 100000"
    assert world.request() is None and world.process.poll() is None


def test_program_that_sleeps_does_not_have_the_warden_count_at_length_all_the_time(
    world: World,
) -> None:
    world.memory.anonymous = True
    world.look()
    world.answer(unclear=["7.3"])
    world.look(0)
    world.clock.now += 4
    world.answer()
    assert world.look() == 3, "the lock is still there"
    world.answer(unclear=["7.3"])
    assert world.look() == 3
    assert world.look(4 * PAUSE_SHARE) == 4


def test_run_that_stays_unclear_for_want_of_memory_is_counted_again_now_and_then(
    world: World,
) -> None:
    world.memory.size = STEP
    world.look()
    for _ in range(20):
        world.answer(unclear=["7.3"])
        counts = len(world.counts)
        if world.look(0) == counts:
            break
    assert world.look() == counts < 20
    for number in (1, 2, 3):
        assert world.look(RETRY_S) == counts + number
        assert world.counts[-1][0].arguments["most"] == MOST
        world.answer(unclear=["7.3"])
        assert world.look() == counts + number


def test_pause_of_counts_at_length_ends_when_the_memory_grows(world: World) -> None:
    world.memory.size = STEP
    world.look()
    world.answer(unclear=["7.3"])
    world.look(0)
    world.clock.now += 4
    world.answer()
    world.memory.size += STEP
    assert world.look() == 3
    world.answer(unclear=["7.3"])
    assert world.look() == 3
    world.memory.size += HOLD_AT
    assert world.look() == 4
    assert world.quota.read_text() == f"{HELD_US} 100000"


def test_run_that_becomes_unclear_after_the_memory_has_grown_is_not_held_for_it(
    world: World,
) -> None:
    unclear = UnclearRuns(CpuHolds())
    unclear.add([other(world, 4)], 0)
    unclear.add([world.run], HOLD_AT)
    unclear.hold_if_growing(HOLD_AT)
    assert unclear.is_any_held
    assert world.quota.read_text() == "100000 100000\n"


@pytest.mark.parametrize("end", ["it is over its limit", "it ends", "the daemon ends"])
def test_hold_on_a_run_ends_with_its_reason(world: World, end: str) -> None:
    world.memory.size = STEP
    world.look()
    world.memory.size += HOLD_AT
    world.answer(unclear=["7.3"])
    world.look(0)
    assert world.quota.read_text() == f"{HELD_US} 100000"
    if end == "it is over its limit":
        world.answer({"7.3": 123456})
    elif end == "it ends":
        world.run = replace(world.run, run=None)
        world.look()
    else:
        world.watch.close()
    assert world.quota.read_text() == "100000 100000"


def test_hold_does_not_undo_the_limit_of_a_step_that_has_begun_meanwhile(world: World) -> None:
    group, holds = Group({"": str(world.quota.parent)}), CpuHolds()
    holds.begin(group)
    world.quota.write_text("200000 100000")
    holds.end(group)
    assert world.quota.read_text() == "200000 100000"


@pytest.mark.parametrize("is_step_begun", [False, True])
def test_run_is_held_until_both_watches_have_ended_their_holds(
    world: World, is_step_begun: bool
) -> None:
    holds = CpuHolds()
    locks, connections = UnclearRuns(holds), UnclearRuns(holds)
    for one in (locks, connections):
        one.add([world.run], 0)
        one.hold_if_growing(HOLD_AT)
        if is_step_begun and one is locks:
            world.quota.write_text("200000 100000")
    locks.drop([world.run])
    assert world.quota.read_text() == f"{HELD_US} 100000"
    connections.drop([world.run])
    assert world.quota.read_text() == f"{2 if is_step_begun else 1}00000 100000"


def test_hold_that_a_killed_daemon_has_left_on_a_run_is_ended(world: World) -> None:
    group = Group({"": str(world.quota.parent)})
    Path(world.directory, "cpu.max").write_text("300000 100000")
    end_left(group)
    assert world.quota.read_text() == "100000 100000\n", "it is not held"
    CpuHolds().begin(group)
    end_left(group)
    assert world.quota.read_text() == "300000 100000"
