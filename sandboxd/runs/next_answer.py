"""The table of the next answer about a run, for the batch mode. No I/O.

    the run                                          the answer          exitCode
    has an event that no call has answered yet
      clean ended                                    clean-finished      of clean
      build ended                                    build-finished      of build
      exec ended, or a step ended the run            finished            of the step
      a time limit ended a step and the run          exec-timeout        null
      sandboxd failed                                finished            -1
    is over and its last event was answered          that answer again
    waits for input, and the client is not prompted  waiting-input       null
    has new output and the client wants it at once   continued           null
    has none of these and the call's time is up      continued           null
    has none of these                                no answer yet

The first row that applies counts. A run that is over always has a final event (journal.lost).
A call that holds passes over events that do not end the run, and answers the final one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .journal import JournalEvent

Status = Literal[
    "continued", "clean-finished", "build-finished", "waiting-input", "finished", "exec-timeout"
]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, and how far its client.

    answered      events that calls have answered
    awaits_input  the program waits for input
    prompted      the client knows that it does
    output        there is console text that the client wants at once
    expired       the call has waited as long as it may
    holds         the call passes over events that are not final
    """

    events: Sequence[JournalEvent] = ()
    answered: int = 0
    awaits_input: bool = False
    prompted: bool = False
    output: bool = False
    expired: bool = False
    holds: bool = False


@dataclass(frozen=True, slots=True)
class NextAnswer:
    """The answer of a call; `event`: the one that it answers; `again`: not for the first time."""

    status: Status
    exit_code: int | None = None
    event: JournalEvent | None = None
    again: bool = False


def next_answer(progress: Progress) -> NextAnswer | None:
    """The answer of a call now; None: the call has to wait."""
    events, answered = progress.events, progress.answered
    is_over = bool(events) and events[-1].final
    if progress.holds and answered < len(events):
        answered = len(events) - is_over
    if answered < len(events):
        return _of(events[answered])
    if is_over:
        return _of(events[-1], again=True)
    if progress.awaits_input and not progress.prompted:
        return NextAnswer("waiting-input")
    if progress.output or progress.expired:
        return NextAnswer("continued")
    return None


def _of(event: JournalEvent, again: bool = False) -> NextAnswer:
    return NextAnswer(_status(event), event.exit, event, again)


def _status(event: JournalEvent) -> Status:
    if event.exit is None:
        return "exec-timeout"
    if event.final:
        return "finished"
    return "clean-finished" if event.step == "clean" else "build-finished"
