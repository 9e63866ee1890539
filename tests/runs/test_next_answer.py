"""The whole table of next answers: every journal, every number of answers, every flag."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from sandboxd.model import STEPS
from sandboxd.runs.journal import JournalEvent
from sandboxd.runs.next_answer import NextAnswer, Progress, next_answer

from ..each_case import each_case

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
            for flags in itertools.product((False, True), repeat=5):
                yield Progress(events, answered, *flags)


ALL = list(progresses())


def test_each_event_is_answered_by_its_own_call_before_anything_else() -> None:
    for progress in ALL:
        if progress.answered < len(progress.events) and not progress.holds:
            answer = next_answer(progress)
            assert answer and answer.event is progress.events[progress.answered]
            assert not answer.again


def test_call_that_holds_is_answered_by_the_end_of_the_run_and_by_no_other_end() -> None:
    for progress in ALL:
        events = progress.events
        if not progress.holds or not events:
            continue
        answer = next_answer(progress)
        if events[-1].final:
            assert answer and answer.event is events[-1]
            assert answer.again == (progress.answered == len(events))
        else:
            assert answer == next_answer(replace(progress, answered=len(events)))
            assert answer is None or answer.event is None


def test_run_that_is_over_gives_its_last_answer_for_ever() -> None:
    for progress in ALL:
        events = progress.events
        if events and events[-1].final and progress.answered == len(events):
            answer = next_answer(progress)
            assert answer and answer.event is events[-1] and answer.again


def test_call_waits_only_while_nothing_happens_and_time_is_left() -> None:
    for progress in ALL:
        over = bool(progress.events) and progress.events[-1].final
        idle = (
            (progress.answered == len(progress.events) or progress.holds)
            and not over
            and not (progress.awaits_input and not progress.prompted)
            and not progress.output
            and not progress.expired
        )
        assert (next_answer(progress) is None) == idle


def test_client_is_prompted_once_for_input() -> None:
    assert next_answer(Progress(awaits_input=True)) == NextAnswer("waiting-input")
    assert next_answer(Progress(awaits_input=True, prompted=True)) is None
    assert next_answer(Progress(awaits_input=True, prompted=True, expired=True)) == NextAnswer(
        "continued"
    )


def test_answer_has_an_exit_code_exactly_when_a_step_ended() -> None:
    for progress in ALL:
        answer = next_answer(progress)
        if answer and answer.status in ("continued", "waiting-input", "exec-timeout"):
            assert answer.exit_code is None
        elif answer:
            assert answer.exit_code is not None


@each_case(
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
def test_each_kind_of_event_has_its_status(event: JournalEvent, status: str) -> None:
    answer = next_answer(Progress((event,)))
    assert answer and (answer.status, answer.exit_code) == (status, event.exit)
