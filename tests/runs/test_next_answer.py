"""The state table, all of it: every journal, every number of answers, every flag."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from sandboxd.model import STEPS
from sandboxd.runs.journal import JournalEvent
from sandboxd.runs.next_answer import NextAnswer, Progress, next_answer

CODES = (None, -1, 0, 1, 127)


def journals() -> Iterator[tuple[JournalEvent, ...]]:
    """Every journal, also unfinished ones, that parse and lost can give."""
    fault = JournalEvent(None, -1, 0, True, fault="stage x")
    for length in range(4):
        for codes in itertools.product((0, 1), repeat=length):
            events = tuple(JournalEvent(STEPS[n], c, 0, n == 2) for n, c in enumerate(codes))
            yield events
            if length < 3:
                yield (*events, fault)
                for code in CODES:
                    yield (*events, JournalEvent(STEPS[length], code, 0, True))


def progresses() -> Iterator[Progress]:
    for events in journals():
        for answered in range(len(events) + 1):
            for flags in itertools.product((False, True), repeat=4):
                yield Progress(events, answered, *flags)


ALL = list(progresses())


def test_each_event_is_answered_by_its_own_call_before_anything_else() -> None:
    for progress in ALL:
        if progress.answered < len(progress.events):
            found = next_answer(progress)
            assert found and found.event is progress.events[progress.answered]
            assert not found.again


def test_a_run_that_is_over_gives_its_last_answer_for_ever() -> None:
    for progress in ALL:
        events = progress.events
        if events and events[-1].final and progress.answered == len(events):
            found = next_answer(progress)
            assert found and found.event is events[-1] and found.again


def test_a_call_waits_only_while_nothing_happens_and_time_is_left() -> None:
    for progress in ALL:
        over = bool(progress.events) and progress.events[-1].final
        idle = (
            progress.answered == len(progress.events)
            and not over
            and not (progress.waiting and not progress.prompted)
            and not progress.output
            and not progress.expired
        )
        assert (next_answer(progress) is None) == idle


def test_waiting_input_is_told_once() -> None:
    assert next_answer(Progress(waiting=True)) == NextAnswer("waiting-input")
    assert next_answer(Progress(waiting=True, prompted=True)) is None
    assert next_answer(Progress(waiting=True, prompted=True, expired=True)) == NextAnswer(
        "continued"
    )


def test_exit_codes_are_there_exactly_with_ended_steps() -> None:
    for progress in ALL:
        found = next_answer(progress)
        if found and found.status in ("continued", "waiting-input", "exec-timeout"):
            assert found.exit_code is None
        elif found:
            assert found.exit_code is not None


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (JournalEvent("clean", 0, 0, False), "clean-finished"),
        (JournalEvent("clean", 1, 0, False), "clean-finished"),
        (JournalEvent("build", 2, 0, False), "build-finished"),
        (JournalEvent("exec", 0, 0, True), "finished"),
        (JournalEvent("exec", 139, 0, True), "finished"),
        (JournalEvent("build", 137, 0, True), "finished"),
        (JournalEvent("clean", None, 0, True), "exec-timeout"),
        (JournalEvent("build", None, 0, True), "exec-timeout"),
        (JournalEvent("exec", None, 0, True), "exec-timeout"),
        (JournalEvent(None, -1, 0, True, fault="x"), "finished"),
    ],
)
def test_status_of_an_event(event: JournalEvent, status: str) -> None:
    found = next_answer(Progress((event,)))
    assert found and (found.status, found.exit_code) == (status, event.exit)
