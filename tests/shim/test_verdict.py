"""What became of a step: the whole table of causes, and their order."""

from __future__ import annotations

import signal

import pytest

from sandboxd.jail.cgroup import Counters
from sandboxd.model import Limits, Usage
from sandboxd.shim.verdict import exit_code, judge, killed

NONE = Counters(0, 0, 0, 0, 0)
OOM = Counters(0, 0, 0, 1, 0)
REFUSED = Counters(0, 0, 0, 0, 3)
OK, FAILED, KILLED, SEGV = 0, 1 << 8, signal.SIGKILL, signal.SIGSEGV


def test_exit_codes_are_those_of_a_shell() -> None:
    assert [exit_code(s) for s in (OK, FAILED, KILLED, SEGV)] == [0, 1, 137, 139]


@pytest.mark.parametrize(
    ("status", "ended_by", "after", "outcome", "limit"),
    [
        (OK, None, NONE, "success", None),
        (FAILED, None, NONE, "failure", None),
        (SEGV, None, NONE, "signal", None),
        (KILLED, None, NONE, "signal", None),
        (None, "wall_s", NONE, "limit", "wall_s"),
        (None, "cpu_s", OOM, "limit", "cpu_s"),
        (KILLED, None, OOM, "limit", "memory"),
        (FAILED, None, OOM, "limit", "memory"),
        (OK, None, OOM, "success", None),
        (None, None, OOM, "limit", "memory"),
        (None, None, NONE, "fault", None),
        (FAILED, None, REFUSED, "limit", "pids"),
        (OK, None, REFUSED, "success", None),
    ],
)
def test_causes_in_their_order(
    status: int | None, ended_by: str | None, after: Counters, outcome: str, limit: str | None
) -> None:
    found = judge(status, ended_by, Limits(), NONE, Usage(), after)
    assert (found.outcome, found.limit) == (outcome, limit)
    assert bool(found.advice) == (outcome not in ("success", "failure"))


def test_signal_is_named() -> None:
    assert judge(SEGV, None, Limits(), NONE, Usage(), NONE).signal == "SIGSEGV"
    assert judge(40, None, Limits(), NONE, Usage(), NONE).signal == "SIGRTMIN+6"


def test_advice_says_how_much_there_was() -> None:
    advice = judge(KILLED, None, Limits(memory=64 << 20), NONE, Usage(pids_peak=9), OOM).advice
    assert "64 MiB" in advice
    assert "9 processes" in advice


def test_a_step_that_was_ended_on_request_died_of_a_signal_and_is_nobodys_fault() -> None:
    found = killed(Usage(wall_ms=5))
    assert (found.outcome, found.signal, found.limit) == ("signal", "SIGKILL", None)
    assert found.usage.wall_ms == 5 and found.advice
