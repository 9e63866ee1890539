"""The accounting of runs: a log line at the start and at the end of each, and the metrics."""

from __future__ import annotations

import dataclasses
import logging
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from ... import log
from ...config.settings import ConsoleConfig
from ...model import Limits, Outcome
from ...runs.journal import NO_POSITION, JournalEvent
from ...runs.run import Run
from ...store.sessions import SessionRow
from .metrics import Metrics

_OUTCOMES = {*typing.get_args(Outcome), "vanished"}
_LIMITS = {each.name for each in dataclasses.fields(Limits)} | {"", "locks", "connections"}


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a run, as its journal has it.

    step   the last step that has ended, with its exit code
    limit  the limit that ended the step, else ""
    fault  the description of our own failure, else ""
    """

    outcome: str
    step: str | None = None
    exit: int | None = None
    limit: str = ""
    fault: str = ""


class RunAccounting:
    """Logs and counts the runs of all sessions."""

    def __init__(self, metrics: Metrics, keep: ConsoleConfig) -> None:
        self._metrics = metrics
        self._spool_size = keep.head + keep.tail

    def run_starts(self, row: SessionRow, run: Run) -> None:
        """The api is about to ask the warden to start the run."""
        waited = max(0.0, run.started_at - run.asked_at)
        self._metrics.queue_seconds.observe(waited)
        log.event(
            "run.start", request=None, session=row.id, owner=row.owner, run=run.id,
            number=run.number, runtime=row.runtime, waited_ms=round(waited * 1000),
        )  # fmt: skip

    def run_over(self, row: SessionRow, run: Run, now: float) -> None:
        """Nothing more will happen in the run."""
        self._printed(run.events)
        seconds = max(0.0, now - run.started_at) if run.started_at else None
        end = _end_of(run)
        self._metrics.run_over(
            _label(end.outcome, _OUTCOMES), _label(end.limit, _LIMITS), row.runtime, seconds
        )
        log.event(
            "run.over", logging.WARNING if end.fault else logging.INFO, request=None,
            session=row.id, owner=row.owner, run=run.id, outcome=end.outcome, step=end.step,
            exit=end.exit, limit=end.limit or None,
            ms=None if seconds is None else round(seconds * 1000), error=end.fault or None,
        )  # fmt: skip

    def _printed(self, events: Sequence[JournalEvent]) -> None:
        """Count the bytes that a run has printed. Those for which the disk had no room, and those
        between the head and the tail of the spool, count as cut."""
        used = [event.verdict.usage for event in events if event.verdict]
        printed = sum(usage.stdout_bytes + usage.stderr_bytes for usage in used)
        end = max((e.console for e in events if e.console != NO_POSITION), default=0)
        cut = sum(usage.cut_bytes for usage in used) + max(0, end - self._spool_size)
        self._metrics.console.inc(max(0, printed))
        self._metrics.console_cut.inc(min(max(0, cut), max(0, printed)))


def _end_of(run: Run) -> _End:
    fault = str(run.error) if run.error else ""
    if not run.events:
        return _End("vanished" if run.vanished else "fault", fault=fault)
    last = run.events[-1]
    verdict = last.verdict
    outcome: str = verdict.outcome if verdict else "fault"
    if run.vanished and not last.final:
        outcome = "vanished"
    limit = (verdict.limit if verdict else None) or ""
    return _End(outcome, last.step, last.exit, limit, fault or last.cause or last.fault)


def _label(value: str, known: set[str]) -> str:
    """`value` as a label, if it is known. The journal is untrusted, and a label stays for ever."""
    return value if value in known else "other"
