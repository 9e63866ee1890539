"""The deadlines of a step, moment by moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.shim import deadlines as module
from sandboxd.shim.deadlines import FIRST_LOOK, IDLE_SHARE, LAST_LOOK, Deadlines, stands_still

from ..each_case import each_case

START = 1000.0


class Cpu:
    """The CPU clock of a step, which tests set. `reads` counts how often it was read."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.seconds


@pytest.fixture
def cpu() -> Cpu:
    return Cpu()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, cpu: Cpu) -> Deadlines:
    monkeypatch.setattr(module, "monotonic", lambda: START)
    deadlines = Deadlines()
    deadlines.start(replace(STEP_LIMITS, wall_s=10, cpu_s=4, cpus=2), 60, cpu)
    return deadlines


def test_wall_limit_comes_when_it_is_due(clock: Deadlines) -> None:
    assert not clock.wall_reached(START + 9.99)
    assert clock.wall_reached(START + 10)


def test_wall_stands_still_while_the_user_thinks(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    assert clock.awaits_input
    assert not clock.wall_reached(START + 50)
    clock.record_input(START + 50)
    assert not clock.awaits_input
    assert not clock.wall_reached(START + 58.9)
    assert clock.wall_reached(START + 59)


def test_client_that_declines_cannot_stop_the_clock(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    clock.record_decline(START + 2)
    clock.record_look(START + 3, waits=True)
    assert clock.awaits_input
    assert not clock.wall_reached(START + 10.9)
    assert clock.wall_reached(START + 11)


def test_nobody_waits_for_ever(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    assert not clock.input_reached(START + 60.9)
    assert clock.input_reached(START + 61)


def test_program_that_goes_on_by_itself_no_longer_waits(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    clock.record_look(START + 3, waits=False)
    assert not clock.awaits_input
    assert clock.wall_reached(START + 12)


def test_output_ends_the_waiting(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    assert not clock.look_due(START + 3, quiet_since=START + 3)
    assert not clock.awaits_input
    assert clock.look_due(START + 3 + FIRST_LOOK, quiet_since=START + 3)


def test_looks_for_a_wait_get_rarer_down_to_two_a_second(clock: Deadlines) -> None:
    clock.start(replace(STEP_LIMITS, wall_s=10, cpu_s=100), 60, Cpu())
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
    clock.stop_looking(START)
    assert not clock.look_due(START + 100, quiet_since=START)
    assert clock.next(START) > START + LAST_LOOK


def test_program_cannot_stop_the_clock_by_asking_again_and_again(clock: Deadlines) -> None:
    """One thread waits, others print: only a client's answer makes the patience anew."""
    now = START
    while now < START + 300 and not clock.wall_reached(now):
        clock.record_look(now, waits=True)
        if clock.input_reached(now):
            clock.stop_looking(now)
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
    clock.start(replace(STEP_LIMITS, wall_s=10, cpu_s=100), 60, Cpu())
    clock.begin_grace(START + 10)
    clock.record_look(START + 10.1, waits=True)
    assert not clock.wall_reached(START + 10.2) and not clock.kill_due(START + 11.9)
    assert clock.next(START + 11.8) <= START + 12
    assert clock.kill_due(START + 12)


@each_case(
    ("elapsed", "cpu_s", "cpus", "still"),
    [
        (1.0, 0.0, 1.0, True),
        (1.0, 0.0199, 1.0, True),
        (1.0, 0.02, 1.0, False),  # the bound itself is too much
        (1.0, 1.0, 1.0, False),
        (0.5, 0.0099, 1.0, True),
        (0.5, 0.01, 1.0, False),
        (100.0, 1.99, 1.0, True),
        (100.0, 2.0, 1.0, False),
        (1.0, 0.0199, 64.0, True),  # of one CPU, however many the step has
        (1.0, 0.02, 64.0, False),
        (1.0, 0.0199, 0.04, True),
        (1.0, 0.0099, 0.02, True),
        (1.0, 0.01, 0.02, False),  # half of a share that is smaller than 4 %
        (1.0, 0.01, 0.01, False),
        (FIRST_LOOK, 0.0, 1.0, True),
        (FIRST_LOOK, FIRST_LOOK * IDLE_SHARE, 1.0, False),
        (0.049, 0.0, 1.0, False),  # too short to prove anything
        (0.0, 0.0, 1.0, False),
    ],
)
def test_clock_stands_still_for_an_idle_program_only(
    elapsed: float, cpu_s: float, cpus: float, still: bool
) -> None:
    assert stands_still(elapsed, cpu_s, cpus) is still


def test_program_that_computes_while_a_thread_waits_meets_its_limit(
    clock: Deadlines, cpu: Cpu
) -> None:
    now = START
    while not clock.wall_reached(now):
        clock.record_look(now, waits=True)
        assert clock.awaits_input
        now += LAST_LOOK
        cpu.seconds += LAST_LOOK
        assert now < START + 20
    assert now <= START + 10 + LAST_LOOK


def test_time_between_two_looks_counts_only_if_the_program_worked_in_it(
    clock: Deadlines, cpu: Cpu
) -> None:
    clock.record_look(START + 1, waits=True)
    clock.record_look(START + 3, waits=True)  # 2 s idle
    cpu.seconds += 1
    clock.record_look(START + 4, waits=True)  # 1 s at work
    assert clock.wall_reached(START + 12)  # the clock runs until the program is seen idle again
    clock.record_look(START + 7, waits=True)  # 3 s idle
    assert not clock.wall_reached(START + 100)
    clock.record_input(START + 8)  # 1 s idle
    assert not clock.wall_reached(START + 15.9)
    assert clock.wall_reached(START + 16)


def test_work_between_the_last_look_and_the_answer_counts(clock: Deadlines, cpu: Cpu) -> None:
    clock.record_look(START + 1, waits=True)
    cpu.seconds += 0.5
    clock.record_input(START + 2)
    assert clock.wall_reached(START + 10)


def test_ticking_timers_do_not_start_the_clock(clock: Deadlines, cpu: Cpu) -> None:
    for second in range(1, 50):
        clock.record_look(START + second, waits=True)
        cpu.seconds += 0.019
        assert not clock.wall_reached(START + second)


def test_idle_program_cannot_stop_the_clock_after_its_client_declined(clock: Deadlines) -> None:
    clock.record_look(START + 1, waits=True)
    clock.record_decline(START + 2)
    for second in range(3, 9):
        clock.record_look(START + second, waits=True)
    assert clock.wall_reached(START + 11)


def test_cpu_clock_is_read_only_while_the_program_waits(clock: Deadlines, cpu: Cpu) -> None:
    for second in range(1, 5):
        clock.record_look(START + second, waits=False)
        clock.stop_looking(START + second)
    assert cpu.reads == 0
