"""The standard inputs of a session's runs that wait, as part of the memory for what clients send.

A request with `options.stdin` is over long before its run begins, if the run has to wait. The input
counts as a body of its owner until the run has it: otherwise the queues of many sessions could hold
gigabytes. An input that an earlier daemon has accepted counts too, also above the bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...errors import Unavailable
from ...runs.run import Run
from ..http.body_budget import BodyBudget


class WaitingInputs:
    """The inputs of one session's runs, of `owner`."""

    def __init__(self, budget: BodyBudget, owner: str) -> None:
        self._budget = budget
        self._owner = owner
        self._sizes: dict[Run, int] = {}

    def add(self, runs: Iterable[Run]) -> None:
        """Count the inputs of new runs. Raises Unavailable; then none is counted."""
        sizes = {run: len(run.plan.stdin or b"") for run in runs}
        if (total := sum(sizes.values())) and not self._budget.has_room(self._owner, total):
            raise Unavailable("too much standard input waits for its runs; try again later")
        self.take(sizes)

    def take(self, runs: Iterable[Run]) -> None:
        """Count the inputs of runs that have been accepted already."""
        for run in runs:
            if size := len(run.plan.stdin or b""):
                self._sizes[run] = size
                self._budget.add(self._owner, size)

    def remove(self, run: Run) -> None:
        """The run has its input, or never begins: forget the input."""
        if size := self._sizes.pop(run, 0):
            self._budget.add(self._owner, -size)
            run.plan = replace(run.plan, stdin=b"")

    def clear(self) -> None:
        """Forget the inputs of all runs: the session is over, or the daemon ends."""
        for run in list(self._sizes):
            self.remove(run)
