"""The table of the states of a run, and its copy in the documentation."""

from __future__ import annotations

import typing
from pathlib import Path

from sandboxd.runs.life import BEFORE, ENDED, TRANSITIONS, UNWANTED, RunEvent, RunState

STATES = typing.get_args(RunState)
EVENTS = typing.get_args(RunEvent)

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def reachable(state: RunState) -> set[RunState]:
    """The states that can follow, however late."""
    states: set[RunState] = set()
    new = set(TRANSITIONS[state].values())
    while new:
        states |= new
        new = {later for each in new for later in TRANSITIONS[each].values()} - states
    return states


def test_table_has_each_state_and_each_event() -> None:
    assert set(TRANSITIONS) == set(STATES)
    assert {event for events in TRANSITIONS.values() for event in events} == set(EVENTS)
    assert reachable("queued") | {"queued"} == set(STATES)


def test_run_that_has_ended_or_is_unwanted_never_begins() -> None:
    for state in ENDED | UNWANTED:
        assert not reachable(state) & (BEFORE | {"running"}), state
    assert ENDED | UNWANTED | BEFORE | {"running"} == set(STATES)


def test_each_state_can_fail_or_vanish_and_a_vanished_run_stays_so() -> None:
    """A bug, or the end of the session, can come at any time."""
    for state in STATES:
        assert {"fail", "vanish"} <= set(TRANSITIONS[state]) or state == "failed", state
        assert TRANSITIONS[state]["vanish"] == "vanished"
    assert set(TRANSITIONS["vanished"].values()) == {"vanished"}


def test_run_is_called_off_only_while_it_waits_for_admission() -> None:
    assert [state for state in STATES if "call off" in TRANSITIONS[state]] == ["waiting"]


def test_documentation_has_the_table() -> None:
    section = ARCHITECTURE.read_text().split("### States of a run")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| ")]
    table = {row[0].strip(): row[2:] for row in rows[1:]}
    for state in STATES:
        following = dict.fromkeys(TRANSITIONS[state].values())
        text = ", ".join(each for each in following if each != state)
        assert "".join(table[state]).strip() == text, state
