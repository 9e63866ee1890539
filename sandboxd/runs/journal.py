"""The checked journal of a run. No I/O.

The journal is written by a process with the session's uid, so each line is untrusted: it
counts only if the shim would have written it at that place. The first line that the shim would
not have written ends the journal. `lost` completes a journal that has no final event.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from ..errors import ERRNO_MAX, StageError
from ..model import STEPS, StepName, Verdict
from ..wire.messages import NUMBER_MAX

NO_POSITION = NUMBER_MAX - 1
"""Beyond every console position that a run can reach. A shim must read it as this number:
if it read another one, it would answer each watch at once."""

_T = TypeVar("_T")

# msgspec takes a dataclass apart at its first use, and shows other threads the result before it is
# complete: they then read through null pointers (DataclassInfo_Convert of its _core.c, as of 0.22).
# Journals are read in threads. No thread exists at import: the result is complete for all.
msgspec.json.Decoder(Verdict)

SHIM_GONE = "the process that followed it is gone"
HOST_RESTARTED = "the host was restarted while it was under way"
"""Reasons why a run may have no verdict."""

TEXT_MAX = 2000
"""Characters of an advice or an error message that are passed on."""


@dataclass(frozen=True, slots=True)
class JournalEvent:
    """One event of a run.

    step     the step that ended; None for our own failure
    exit     the exit code of the step; None when a time limit ended the step
    console  the console position behind which the event happened
    final    the run is over with the event
    output   after the step, the session may have the directory whose new files a result lists
    fault    the description of our own failure for clients, else ""
    cause    the whole description, for the log
    """

    step: StepName | None
    exit: int | None
    console: int
    final: bool
    verdict: Verdict | None = None
    output: bool = False
    fault: str = ""
    cause: str = ""


def parse(lines: Iterable[dict[str, Any]]) -> list[JournalEvent]:
    """The events of a journal, up to the final one or to the first that cannot be true."""
    events: list[JournalEvent] = []
    for line in lines:
        event = _event(line, len(events))
        if event is None:
            break
        events.append(event)
        if event.final:
            break
    return events


def lost(events: list[JournalEvent], why: str = SHIM_GONE) -> list[JournalEvent]:
    """`events` with an end, for a run that is over: a fault, if the journal has none."""
    if events and events[-1].final:
        return events
    fault = f"the run ended without a verdict: {why}"
    return [*events, JournalEvent(None, -1, NO_POSITION, True, fault=fault)]


def _event(line: dict[str, Any], number: int) -> JournalEvent | None:
    console = line.get("console")
    if type(console) is not int or not 0 <= console < NO_POSITION:
        return None
    if line.get("event") == "fault":
        error = _fault(line)
        public, cause = error.public[:TEXT_MAX], str(error)[:TEXT_MAX]
        return JournalEvent(None, -1, console, True, fault=public, cause=cause)
    if number >= len(STEPS) or (line.get("event"), line.get("step")) != ("step", STEPS[number]):
        return None
    code = line.get("exit")
    if code is not None and (type(code) is not int or not -1 <= code <= 255):
        return None
    final = number == len(STEPS) - 1 or code is None or line.get("final") is True
    output = STEPS[number] == "exec" and line.get("output") is not False  # older shims do not say
    return JournalEvent(STEPS[number], code, console, final, _verdict(line.get("verdict")), output)


def _fault(line: dict[str, Any]) -> StageError:
    errno = line.get("errno")
    known = errno if type(errno) is int and 0 < errno <= ERRNO_MAX else 0
    return StageError(str(line.get("stage")), str(line.get("message")), known)


def _verdict(value: Any) -> Verdict | None:
    """A Verdict with its texts bounded; None when `value` is not one."""
    try:
        verdict = msgspec.convert(value, Verdict)
    except msgspec.ValidationError:
        return None
    if _is_short(verdict):
        return verdict
    return replace(
        verdict,
        limit=_short(verdict.limit),
        signal=_short(verdict.signal),
        denied_syscall=_short(verdict.denied_syscall),
        denied=_bounded(verdict.denied),
        counters=_bounded(verdict.counters),
        advice=verdict.advice[:TEXT_MAX],
    )


def _is_short(verdict: Verdict) -> bool:
    """No text of it was named by a client or a program, as in most verdicts."""
    texts = verdict.limit, verdict.signal, verdict.denied_syscall, verdict.advice
    return not (any(texts) or verdict.denied or verdict.counters)


def _bounded(table: dict[str, _T]) -> dict[str, _T]:
    """As many entries as the shim could have written, with names as short as those of the shim."""
    return {name[:64]: value for name, value in itertools.islice(table.items(), 100)}


def _short(text: str | None) -> str | None:
    return None if text is None else text[:64]
