"""The deadlines of a step, moment by moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandboxd.config import STEP_LIMITS
from sandboxd.shim import deadlines as module
from sandboxd.shim.deadlines import FIRST_LOOK, LAST_LOOK, Deadlines

START = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    monkeypatch.setattr(module, "monotonic", lambda: START)
    deadlines = Deadlines()
    deadlines.start(replace(STEP_LIMITS, wall_s=10, cpu_s=4, cpus=2), input_s=60)
    return deadlines


def test_wall_limit_comes_when_it_is_due(clock: Deadlines) -> None:
    assert not clock.wall_reached(START + 9.99)
    assert clock.wall_reached(START + 10)


def test_wall_stands_still_while_the_user_thinks(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    assert clock.waiting
    assert not clock.wall_reached(START + 50)
    clock.record_input(START + 50)
    assert not clock.waiting
    assert not clock.wall_reached(START + 58.9)
    assert clock.wall_reached(START + 59)


def test_client_that_declines_cannot_stop_the_clock(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    clock.record_decline(START + 2)
    clock.record_look(START + 3, waits=True)
    assert clock.waiting
    assert not clock.wall_reached(START + 10.9)
    assert clock.wall_reached(START + 11)


def test_nobody_waits_for_ever(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    assert not clock.input_reached(START + 60.9)
    assert clock.input_reached(START + 61)


def test_program_that_goes_on_by_itself_no_longer_waits(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    clock.record_look(START + 3, waits=False)
    assert not clock.waiting
    assert clock.wall_reached(START + 12)


def test_output_ends_the_waiting(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    assert not clock.look_due(START + 3, quiet_since=START + 3)
    assert not clock.waiting
    assert clock.look_due(START + 3 + FIRST_LOOK, quiet_since=START + 3)


def test_looks_get_rarer(clock: Deadlines) -> None:
    clock.start(replace(STEP_LIMITS, wall_s=10, cpu_s=100), input_s=60)
    now, gaps = START + FIRST_LOOK, []
    for _ in range(6):
        clock.record_look(now, waits=False)
        due = clock.next(now)
        gaps.append(round(due - now, 3))
        now = due
    assert gaps == [0.1, 0.2, 0.4, 0.5, 0.5, 0.5]


def test_cpu_is_looked_at_no_sooner_than_it_can_be_used_up(clock: Deadlines) -> None:
    assert not clock.cpu_due(START + 1.99)
    assert clock.cpu_due(START + 2)
    assert not clock.cpu_reached(START + 2, used=1.0)
    assert not clock.cpu_due(START + 3.49)
    assert clock.cpu_due(START + 3.5)
    assert clock.cpu_reached(START + 3.5, used=4.0)


def test_closed_input_is_not_looked_at_again(clock: Deadlines) -> None:
    clock.stop_looking()
    assert not clock.look_due(START + 100, quiet_since=START)
    assert clock.next(START) > START + LAST_LOOK


def test_program_cannot_stop_the_clock_by_asking_again_and_again(clock: Deadlines) -> None:
    """One thread waits, others print: only a client's answer makes the patience anew."""
    now = START
    while now < START + 300 and not clock.wall_reached(now):
        clock.record_look(now, waits=True)
        if clock.input_reached(now):
            clock.stop_looking()
        now += 3
        clock.look_due(now, quiet_since=now)  # it printed
    assert now <= START + 10 + 60 + 6


def test_answer_makes_the_patience_anew(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    clock.record_input(START + 50)
    clock.record_look(START + 51, waits=True)
    assert not clock.input_reached(START + 110)
    assert clock.input_reached(START + 111)


def test_costly_looks_get_rarer_still(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=False, cost=0.1)
    assert not clock.look_due(START + 2.9, quiet_since=START)
    assert clock.look_due(START + 3, quiet_since=START)


def test_grace_replaces_the_wall_limit_and_ends_whatever_the_program_waits_for(
    clock: Deadlines,
) -> None:
    clock.start(replace(STEP_LIMITS, wall_s=10, cpu_s=100), input_s=60)
    clock.begin_grace(START + 10)
    clock.record_look(START + 10.1, waits=True)
    assert not clock.wall_reached(START + 10.2) and not clock.kill_due(START + 11.9)
    assert clock.next(START + 11.8) <= START + 12
    assert clock.kill_due(START + 12)
