"""The runs whose count has reached its bound before its end (turns.py), with their holds.

They are counted again, apart from the others, with a bound that is each time GROWTH times as high.
Those that are clear then are off the list. While the kernel's memory grows on, they are held
(cpu_hold.py): however long the count takes, the host loses next to nothing meanwhile, and
a program that has many descriptors for good reasons is slow for a moment and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from ... import log
from .cpu_hold import CpuHolds
from .worker import Worker

UNITS = 30_000
"""The first bound of a count: some 0.4 s."""

GROWTH = 4

MOST = 1 << 30
"""The last bound, which no runs together reach: a run is still unclear then for want of descriptors
or memory."""

HOLD_AT = 8 << 20
"""Growth of the kernel's memory since the count began that has the runs held."""


@dataclass(slots=True, eq=False)
class _Unclear:
    """A run, with the size of the kernel's memory when its count began."""

    worker: Worker
    size: int
    is_held: bool = False


class UnclearRuns:
    """The list, without those that have ended.

    most  the bound of their next count
    """

    def __init__(self, holds: CpuHolds) -> None:
        self._holds = holds
        self._runs: list[_Unclear] = []
        self.most = UNITS

    def __bool__(self) -> bool:
        return bool(self._runs)

    @property
    def workers(self) -> list[Worker]:
        """The workers of these runs, in the order in which they are counted."""
        return [one.worker for one in self._runs]

    @property
    def is_any_held(self) -> bool:
        """A run is held."""
        return any(one.is_held for one in self._runs)

    def add(self, workers: Iterable[Worker], size: int) -> None:
        """Take runs whose count began when the kernel's memory had this `size`. They come behind
        the others of the list, in this order, also those that are on it already."""
        if not self._runs:
            self.most = GROWTH * UNITS
        last = [self._entry(worker) or _Unclear(worker, size) for worker in workers]
        self._runs = [one for one in self._runs if one not in last] + last

    def has(self, worker: Worker) -> bool:
        """The run is on the list."""
        return worker.is_any_of(self.workers)

    def drop(self, workers: Collection[Worker]) -> None:
        """Drop runs that are clear, or over their limit."""
        self._drop(lambda worker: worker.is_any_of(workers))

    def raise_bound(self) -> None:
        """A count of the list has reached its bound, or its end."""
        self.most = min(GROWTH * self.most, MOST)

    def remain(self, workers: Collection[Worker]) -> None:
        """Drop the runs that are not among those of these workers."""
        self._drop(lambda worker: not worker.is_any_of(workers))

    def hold_if_growing(self, size: int) -> None:
        """Hold the runs since whose count the kernel's memory has grown."""
        for one in self._runs:
            if size - one.size >= HOLD_AT and not one.is_held and one.worker.group:
                log.event("run.slowed", logging.WARNING, run=one.worker.group.name)
                self._holds.begin(one.worker.group)
                one.is_held = True

    def close(self) -> None:
        """End all holds, and have no runs any more."""
        self._drop(lambda _: True)

    def _entry(self, worker: Worker) -> _Unclear | None:
        return next((one for one in self._runs if one.worker.is_same_run(worker)), None)

    def _drop(self, is_dropped: Callable[[Worker], bool]) -> None:
        for one in self._runs:
            if one.is_held and one.worker.group and is_dropped(one.worker):
                self._holds.end(one.worker.group)
        self._runs = [one for one in self._runs if not is_dropped(one.worker)]
