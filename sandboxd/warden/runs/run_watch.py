"""The watch over memory that the kernel has for programs and counts for no cgroup.

No limit of a process bounds this memory, and no filter can tell what takes it from what gives it
back. A question to the shim for each such call would make programs slow. So runs are watched:

    every LOOK_S    the warden reads how much of this memory the kernel has, of the whole host;
                    SOON_S later where it has grown fast. One number is read, whatever programs do.
    a step more     a background job counts what each run has (lock_count.py, connection_count.py)
    over a bound    a run that has more is over its limit: its shim kills the step, and the verdict
                    names the limit. A shim that does not is killed with its run. The count goes on,
                    or one run after the other would keep others from being counted.
    unclear         a count ends after a bounded number of descriptors. Runs that have more are
                    counted again and at length, and held while the memory grows (unclear_runs.py).
                    Other counts go on beside that.

Until the count is over, a run goes on. Runs are not watched while no warden is there. A result is
about the runs that were counted: of those that have begun meanwhile, one may have the same group.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ... import log
from ...errors import StageError
from ...model import MIB
from ...wire.control_ops import LIMIT
from ..job_process import Done, JobSpec
from . import control_socket
from .cpu_hold import CpuHolds
from .unclear_runs import MOST, UNITS, UnclearRuns
from .worker import Worker

LOOK_S, SOON_S = 0.25, 0.05
"""Between two looks at the kernel's memory."""

STEP = 8 * MIB
"""The growth of that memory after which each run is counted."""

FAST = 1 * MIB
"""The growth between two looks after which the next one is soon."""

PAUSE_SHARE, PAUSE_MAX_S = 5, 60.0
"""After a count that has found no run, the next one waits so many times as long as it took; that of
the unclear runs after one that was clear in the end."""

URGENT = 4 * STEP
"""The growth since that count after which the next one waits no longer. That of the unclear runs
does not wait while they are held."""

RETRY_S = 1.0
"""The next count, when one has failed, or when `is_urgent` has no run to show and the memory has
not grown by FAST."""

IDLE_MAX_S = 4.0
"""That pause of `is_urgent` is doubled each time, up to this: a program that sleeps must not have
the warden count all the time, nor hide behind it another one that passes the limit."""

END_S = 2.0
"""A shim that does not end its step within this time is killed."""

REPEAT_S = 0.5
"""Between two requests to such a shim: each waits at its socket until the shim takes it."""


class KernelMemory(ABC):
    """The kernel's memory of one kind, of the whole host."""

    @abstractmethod
    def bytes(self) -> int:
        """Its size."""

    def is_urgent(self) -> bool:
        """Runs are to be counted, whatever the size is."""
        return False


@dataclass(frozen=True, slots=True)
class _Count:
    """A count.

    workers    all runs of its beginning, by the name of their group
    names      the runs that it looks at
    began      when it began
    size       that of the kernel's memory then
    at_length  it is that of the unclear runs
    """

    workers: Mapping[str, Worker]
    names: Collection[str]
    began: float
    size: int
    at_length: bool


@dataclass(slots=True)
class _Ending:
    """A run that is over its limit `since` a time; its shim was last sent a request at `sent`."""

    worker: Worker
    since: float
    sent: float = 0.0


class RunWatch(ABC):
    """The watch over all runs of a warden, for one kind of memory.

    limit   the name of the limit, as verdicts have it
    memory  this memory

    `begin` begins a background job (background.py), `workers` has the workers of this moment, and
    `holds` are those of all watches.
    """

    limit: ClassVar[str]
    memory: ClassVar[type[KernelMemory]]

    def __init__(
        self,
        begin: Callable[[str, Callable[[], Any], Done, Sequence[int]], None],
        workers: Callable[[], Sequence[Worker]],
        holds: CpuHolds,
        memory: KernelMemory | None = None,
    ) -> None:
        self._begin = begin
        self._workers = workers
        self._memory = memory or self.memory()
        self._base = self._last = self._memory.bytes()
        self._look_at = self._idle_until = 0.0
        self._idle_s = RETRY_S
        self._under_way = set[bool]()  # counts at length or not, as in the next two
        self._next_at, self._pause_until = {False: 0.0, True: 0.0}, {False: 0.0, True: 0.0}
        self._unclear = UnclearRuns(holds)
        self._ending: list[_Ending] = []

    @abstractmethod
    def job(self, groups: dict[str, str], names: Collection[str], most: int) -> JobSpec:
        """The count of the runs `names`, which ends after `most` units (turns.py).

        `groups` has the directory of a cgroup of each run, by the name of the group. The result has
        `over`, the runs that are over the limit with their number, and `unclear`, those of which
        the count has not seen all.
        """

    def due_in(self) -> float:
        """Seconds until the next look, while there are runs."""
        return max(0.0, self._look_at - time.monotonic())

    def maintain(self) -> None:
        """Look, if it is time."""
        now = time.monotonic()
        if now < self._look_at:
            return
        size = self._memory.bytes()
        self._look_at = now + (SOON_S if size - self._last >= FAST else LOOK_S)
        self._last, self._base = size, min(self._base, size)
        self._count_unclear(now, size)
        growth = size - self._base
        is_idle = growth < FAST and now < self._idle_until
        is_grown = growth >= STEP or (not is_idle and self._memory.is_urgent())
        if is_grown and self._may_count(False, now, growth >= URGENT):
            runs = self._runs()
            names = [name for name, worker in runs.items() if not self._unclear.has(worker)]
            if names or not self._unclear:
                self._count(_Count(runs, names, now, size, False), UNITS)

    def close(self) -> None:
        """Hold no run any more."""
        self._unclear.close()

    def _count_unclear(self, now: float, size: int) -> None:
        """Go on with the runs that are unclear."""
        if not self._unclear:
            return
        runs = self._runs()
        self._unclear.remain(list(runs.values()))
        self._unclear.hold_if_growing(size)
        if self._unclear and self._may_count(True, now, self._unclear.is_any_held):
            names = [worker.group.name for worker in self._unclear.workers if worker.group]
            self._count(_Count(runs, names, now, size, True), self._unclear.most)

    def _may_count(self, at_length: bool, now: float, is_pause_over: bool) -> bool:
        if at_length in self._under_way or now < self._next_at[at_length]:
            return False
        return is_pause_over or now >= self._pause_until[at_length]

    def _runs(self) -> dict[str, Worker]:
        """The workers of all runs, by the name of their group."""
        return {
            one.group.name: one
            for one in self._workers()
            if one.run is not None and one.group and one.group.dirs
        }

    def _count(self, count: _Count, most: int) -> None:
        """Begin a count, if a process can be made; else the next one is after RETRY_S."""
        groups = {
            name: next(iter(worker.group.dirs.values()))
            for name, worker in count.workers.items()
            if worker.group
        }
        self._next_at[count.at_length] = count.began + RETRY_S
        self._under_way.add(count.at_length)
        try:
            self._begin(
                f"count {self.limit}",
                self.job(groups, count.names, most),
                lambda result: self._counted(count, result),
                [],
            )
        except StageError:
            self._under_way.discard(count.at_length)

    def _counted(self, count: _Count, result: dict[str, Any] | None) -> None:
        """Take in a count; None: it has failed, and the log has the reason."""
        self._under_way.discard(count.at_length)
        if result is None:
            return
        now, workers = time.monotonic(), self._workers()
        over: dict[str, int] = result["over"]
        runs = {name: worker for name, worker in count.workers.items() if worker.is_any_of(workers)}
        unclear = {name: runs[name] for name in result["unclear"] if name in runs}
        rest = {*over, *unclear}
        clear = [runs[name] for name in count.names if name in runs and name not in rest]
        self._unclear.drop([*clear, *(runs[name] for name in over if name in runs)])
        if count.at_length:
            self._unclear.raise_bound()
        self._unclear.add(unclear.values(), count.size)
        self._set_times(count, now, bool(over), bool(unclear))
        self._ending = [
            one
            for one in self._ending
            if one.worker.is_any_of(workers) and not one.worker.is_any_of(clear)
        ]
        for name, number in over.items():
            if name in runs:
                self._end(runs[name], number, now)

    def _set_times(self, count: _Count, now: float, is_any_over: bool, is_unclear: bool) -> None:
        """Set the times of the next look and the next count."""
        took = now - count.began
        self._next_at[count.at_length] = now
        if is_any_over:
            self._next_at[count.at_length] = now + min(max(SOON_S, took), RETRY_S)
            self._look_at = now + SOON_S
            self._idle_until, self._idle_s = now, RETRY_S
            return
        if not (count.at_length and is_unclear):
            self._pause_until[count.at_length] = now + min(PAUSE_SHARE * took, PAUSE_MAX_S)
        elif self._unclear.most == MOST:
            self._next_at[True] = now + RETRY_S
        if not count.at_length:
            if count.size - self._base >= FAST:
                self._idle_s = RETRY_S
            self._idle_until = now + self._idle_s
            self._idle_s = min(2 * self._idle_s, IDLE_MAX_S)
            self._base = count.size
        if self._unclear:
            self._look_at = now

    def _end(self, worker: Worker, number: int, now: float) -> None:
        """Have the shim end the step, or, when it has not, end the run."""
        ending = next((one for one in self._ending if one.worker.is_same_run(worker)), None)
        name = worker.group.name if worker.group else ""
        if ending is None:
            ending = _Ending(worker, now)
            self._ending.append(ending)
            log.event(f"{self.limit}.held", logging.WARNING, run=name, number=number)
        try:
            if now - ending.since > END_S or worker.slot is None or worker.run is None:
                raise TimeoutError
            if now - ending.sent >= REPEAT_S:
                path = worker.slot.run_path(worker.run)
                control_socket.send(path, LIMIT.message(name=self.limit))
                ending.sent = now
        except (BlockingIOError, ConnectionRefusedError):
            pass  # the shim is at work, or its run is just over; it has until END_S
        except OSError:
            log.event(f"{self.limit}.killed", logging.ERROR, run=name, number=number)
            worker.kill()
