"""The reply to a call of a run: the answer, and the console that goes with it. No I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from .console_items import Item, log
from .cursor import Offset, no_note
from .journal import JournalEvent
from .next_answer import NextAnswer
from .spool_reader import ConsolePart


@dataclass(frozen=True, slots=True)
class StepEnd:
    """The end of a step that a reply serves; `items` of its console are of this step."""

    event: JournalEvent
    items: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call, with the console text that goes with it.

    ends    of the steps that the reply serves, in their order
    offset  the client's place in the run once it has received the reply
    more    more output comes with the next reply
    note    writes the cursor; to be called when all but the last byte has been handed over
    """

    answer: NextAnswer
    console: list[Item]
    offset: Offset = Offset()
    ends: tuple[StepEnd, ...] = ()
    more: bool = False
    note: Callable[[], Awaitable[None]] = field(default=no_note, compare=False)


def divided(
    notices: list[Item], part: ConsolePart, events: Sequence[JournalEvent]
) -> tuple[list[Item], tuple[StepEnd, ...]]:
    """The items of a reply, first of all the `notices`, and the ends of the steps in it. An event
    behind the last mark of `part` has the rest of the console."""
    counts = [*part.counts, len(part.items)][: len(events)]
    items, ends, begin, before = list(notices), list[StepEnd](), 0, 0
    for event, count in zip(events, counts, strict=True):
        items += part.items[begin:count] + _explanation(event)
        ends.append(StepEnd(event, len(items) - before))
        begin, before = count, len(items)
    return items + part.items[begin:], tuple(ends)


def _explanation(event: JournalEvent) -> list[Item]:
    """A log item for an end that needs an explanation: old clients do not read verdicts."""
    if event.fault:
        return [log("error", event.fault)]
    verdict = event.verdict
    if not verdict or not verdict.advice or verdict.outcome == "skipped":
        return []
    return [log("warning", f"{event.step}: {verdict.advice}")]
