"""The finished runs of a queue: their results can be fetched until newer runs push them out, or
their time is over.

A run that is forgotten is unknown to clients at once. The host removes its record and its files a
moment later, those of several runs together.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ..config.settings import ConsoleConfig
from .run import Run, close_all

FINISHED_MAX = 64
"""Finished runs that wait for their client to come back."""

TOGETHER = 8
TOGETHER_SIZE = 1 << 20
"""Forgotten runs, and bytes of their output, that wait to be removed together."""


class RunRemover(Protocol):
    """The service that finished runs need from the host of their queue."""

    async def forget_runs(self, runs: Sequence[Run]) -> None:
        """Remove the records and files of runs."""


class FinishedRuns:
    """The finished runs of one queue, oldest first; `forgotten` is called for each that goes."""

    def __init__(
        self, host: RunRemover, config: ConsoleConfig, forgotten: Callable[[Run], None]
    ) -> None:
        self._host = host
        self._config = config
        self._on_forgotten = forgotten
        self._runs: deque[Run] = deque()
        self._forgotten: list[Run] = []
        self._removing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._is_crowded = False

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def newest(self) -> Run | None:
        """The run that has finished last."""
        return self._runs[-1] if self._runs else None

    def add(self, run: Run) -> None:
        """Add a run that has finished."""
        self._runs.append(run)

    def make_room(self) -> None:
        """Forget the oldest runs soon, in a task: no new run waits for that."""
        self._is_crowded = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._make_room(), name="finished runs")

    async def _make_room(self) -> None:
        while self._is_crowded:
            self._is_crowded = False
            await self.forget_oldest()

    async def forget_oldest(self) -> None:
        """Forget the oldest runs: first of all those whose end has been served."""
        served = [run for run in self._runs if run.served]
        old = served[: max(0, len(served) - self._config.runs_kept)]
        old += list(self._runs)[: max(0, len(self._runs) - FINISHED_MAX)]
        sizes = [(run, await run.size()) for run in self._runs if run not in old]
        total = sum(size for _, size in sizes)
        for run, size in sizes[:-1]:  # the newest stays, however large it is
            if total <= self._config.kept_size:
                break
            old.append(run)
            total -= size
        await self._forget(old)

    @property
    def expires_at(self) -> float:
        """The date at which `expire` has something to do."""
        if self._forgotten:
            return 0.0
        ends = (run.ended_at for run in self._runs) if self._config.keep_s else ()
        return min(ends, default=math.inf) + self._config.keep_s

    async def expire(self, now: float) -> None:
        """Forget runs whose time is over, at `now` seconds since 1970. Called each second, it also
        removes the runs that were forgotten since."""
        if self._config.keep_s:
            await self._forget(
                run for run in self._runs if now - run.ended_at >= self._config.keep_s
            )
        await self._remove_forgotten()

    def shift_dates(self, shifted: Callable[[float], float]) -> None:
        """Move all dates: the host's clock was set, `shifted` is a date by the new clock."""
        for run in self._runs:
            run.ended_at = shifted(run.ended_at)

    async def _forget(self, old: Iterable[Run]) -> None:
        forgotten = [run for run in dict.fromkeys(old) if run in self._runs]
        if not forgotten:
            return
        for run in forgotten:
            self._runs.remove(run)
            self._on_forgotten(run)
            self._forgotten.append(run)
        sizes = [await run.size() for run in self._forgotten]
        if len(sizes) >= TOGETHER or sum(sizes) > min(TOGETHER_SIZE, self._config.kept_size):
            await self._remove_forgotten()

    async def _remove_forgotten(self) -> None:
        if not self._forgotten:
            return
        async with self._removing:
            runs = list(self._forgotten)
            await close_all(runs)
            for run in runs:  # a write that the disk holds up would land in the next run's cursor
                await run.closed()
            if runs:
                await self._host.forget_runs(runs)
            del self._forgotten[: len(runs)]

    async def close(self) -> None:
        """Give all descriptors back; the records and files stay for the next daemon."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for run in [*self._runs, *self._forgotten]:
            await run.close()
        self._runs.clear()
        self._forgotten.clear()
