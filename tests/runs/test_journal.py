"""The untrusted journal: a line that the shim would not have written counts for nothing."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.model import STEPS
from sandboxd.runs.journal import NO_POSITION, TEXT_MAX, lost, parse

from ..each_case import each_case


def line(step: str, exit: Any = 0, **more: Any) -> dict[str, Any]:
    return {"event": "step", "step": step, "exit": exit, "console": 24} | more


WHOLE = [line("clean"), line("build", 1), line("exec", 127)]


def test_whole_journal_is_three_events_the_last_one_final() -> None:
    events = parse(WHOLE)
    assert [(e.step, e.exit, e.final) for e in events] == [
        ("clean", 0, False), ("build", 1, False), ("exec", 127, True),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(3))
def test_step_that_a_time_limit_ended_is_the_final_event(number: int) -> None:
    lines = [line(step) for step in STEPS[:number]] + [line(STEPS[number], None)]
    assert parse(lines)[-1].final and parse(lines)[-1].exit is None


def test_step_that_ended_the_run_is_final() -> None:
    assert [e.final for e in parse([line("clean"), line("build", 137, final=True)])] == [
        False,
        True,
    ]


def test_output_is_looked_for_unless_the_shim_saw_none() -> None:
    """An older shim does not say."""
    assert [e.output for e in parse(WHOLE)] == [False, False, True]
    assert not parse([*WHOLE[:2], line("exec", output=False)])[-1].output
    assert parse([*WHOLE[:2], line("exec", output="x")])[-1].output


@each_case(
    "bad",
    [
        {},
        line("exec"),
        line("build"),
        line("nothing"),
        line("clean", "0"),
        line("clean", True),
        line("clean", 256),
        line("clean", -2),
        line("clean", console=-1),
        line("clean", console=1.5),
        line("clean", console=NO_POSITION),
        {"event": "other", "step": "clean", "exit": 0, "console": 0},
    ],
)
def test_event_that_cannot_be_true_ends_the_journal(bad: dict[str, Any]) -> None:
    assert parse([bad, *WHOLE]) == []


def test_journal_lines_after_the_final_event_are_ignored() -> None:
    assert len(parse([*WHOLE, line("clean"), line("exec")])) == 3


def test_fault_is_the_final_event_and_has_stage_and_errno() -> None:
    fault = {"event": "fault", "stage": "mounts", "errno": 13, "message": "no", "console": 9}
    (event,) = parse([fault])
    assert event.final and event.exit == -1
    assert event.fault == "stage mounts: Permission denied (errno 13)"
    assert event.cause == "stage mounts: no (errno 13 Permission denied)"


def test_texts_of_the_journal_are_bounded() -> None:
    verdict = {"outcome": "limit", "limit": "w" * 999, "advice": "a" * 99999}
    (event,) = parse([line("clean", verdict=verdict)])
    assert event.verdict and len(event.verdict.advice) == TEXT_MAX
    assert event.verdict.limit and len(event.verdict.limit) == 64


@each_case("verdict", [None, 7, {}, {"outcome": "?"}, {"outcome": "success", "oom": 1}])
def test_value_that_is_not_a_verdict_is_left_out(verdict: Any) -> None:
    (event,) = parse([line("clean", verdict=verdict)])
    assert event.verdict is None


def test_run_that_ended_without_a_final_event_gets_a_fault_as_its_end() -> None:
    events = lost(parse([line("clean")]))
    assert len(events) == 2 and events[-1].final and events[-1].exit == -1 and events[-1].fault


def test_lost_adds_nothing_to_a_journal_with_a_final_event() -> None:
    assert lost(parse(WHOLE)) == parse(WHOLE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(["event", "step", "exit", "console", "verdict", "stage", "errno", "final"])


@hypothesis.given(
    st.lists(st.dictionaries(keys, json_values | st.sampled_from(["step", "fault", "clean"])))
)
def test_no_journal_makes_the_reader_fail(lines: list[dict[str, Any]]) -> None:
    events = lost(parse(lines))
    assert events[-1].final and not any(event.final for event in events[:-1])
