"""The watch over memory that the kernel has for programs and counts for no cgroup.

No limit of a process bounds this memory, and no filter can tell what takes it from what gives it
back. A question to the shim for each such call would make programs slow. So runs are watched:

    every LOOK_S    the warden reads how much of this memory the kernel has, of the whole host;
                    SOON_S later where it has grown fast. One number is read, whatever programs do.
    a step more     a background job counts what each run has (lock_count.py, connection_count.py)
    over a bound    a run that has more is over its limit: its shim kills the step, and the verdict
                    names the limit. A shim that does not is killed with its run.

Until the count is over, a run goes on. Runs are not watched while no warden is there.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ... import log
from ...errors import StageError
from ...model import MIB
from ...wire.control_ops import LIMIT
from ..job_process import Done, JobSpec
from . import run_directory
from .worker import Worker

LOOK_S, SOON_S = 0.25, 0.05
"""Between two looks at the kernel's memory."""

STEP = 8 * MIB
"""The growth of that memory after which each run is counted."""

FAST = 1 * MIB
"""The growth between two looks after which the next one is soon."""

PAUSE_SHARE = 5
"""After a count that has found no run, the next one waits so many times as long as it took."""

RETRY_S = 1.0
"""The next count, when one has failed, or when `is_urgent` has no run to show."""

END_S = 2.0
"""A shim that does not end its step within this time is killed."""


class KernelMemory(ABC):
    """The kernel's memory of one kind, of the whole host."""

    @abstractmethod
    def bytes(self) -> int:
        """Its size."""

    def is_urgent(self) -> bool:
        """Runs are to be counted, whatever the size is."""
        return False


class RunWatch(ABC):
    """The watch over all runs of a warden, for one kind of memory.

    limit   the name of the limit, as verdicts have it
    memory  this memory

    `begin` begins a background job (background.py), and `workers` has the workers of this moment.
    """

    limit: ClassVar[str]
    memory: ClassVar[type[KernelMemory]]

    def __init__(
        self,
        begin: Callable[[str, Callable[[], Any], Done, Sequence[int]], None],
        workers: Callable[[], Sequence[Worker]],
        memory: KernelMemory | None = None,
    ) -> None:
        self._begin = begin
        self._workers = workers
        self._memory = memory or self.memory()
        self._base = self._last = self._memory.bytes()
        self._look_at = self._count_at = 0.0
        self._is_counting = False
        self._ending: dict[int, float] = {}  # pid of a shim -> since when its run is over the limit

    @abstractmethod
    def job(self, groups: dict[str, str]) -> JobSpec:
        """The count. `groups` has the directory of a cgroup of each run, by the name of the group;
        the result has the runs that are over the limit, with their number."""

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
        if self._is_counting or now < self._count_at:
            return
        if size - self._base >= STEP or self._memory.is_urgent():
            self._count(now, size)

    def _count(self, now: float, size: int) -> None:
        groups = {
            one.group.name: next(iter(one.group.dirs.values()))
            for one in self._workers()
            if one.run is not None and one.group and one.group.dirs
        }
        self._is_counting, self._count_at = True, now + RETRY_S
        try:
            self._begin(
                f"count {self.limit}",
                self.job(groups),
                lambda over: self._counted(over, now, size),
                [],
            )
        except StageError:  # no process can be made: again after RETRY_S
            self._is_counting = False

    def _counted(self, over: dict[str, int] | None, began: float, size: int) -> None:
        """Take in a count; None: it has failed, and the log has the reason."""
        self._is_counting = False
        now = time.monotonic()
        if over is None:
            return
        if not over:
            is_grown = size - self._base >= STEP
            pause = PAUSE_SHARE * (now - began)
            self._count_at = now + (pause if is_grown else max(pause, RETRY_S))
            self._base = size
        else:
            self._count_at = self._look_at = now + SOON_S
        ending = [one for one in self._workers() if one.group and one.group.name in over]
        self._ending = {one.pid: self._ending.get(one.pid, now) for one in ending}
        for worker in ending:
            self._end(worker, over[worker.group.name] if worker.group else 0, now)

    def _end(self, worker: Worker, number: int, now: float) -> None:
        """Have the shim end the step, or, when it has not, end the run."""
        since = self._ending[worker.pid]
        name = worker.group.name if worker.group else ""
        if since == now:
            log.event(f"{self.limit}.held", logging.WARNING, run=name, number=number)
        try:
            if now - since > END_S or worker.slot is None or worker.run is None:
                raise TimeoutError
            path = worker.slot.run_path(worker.run)
            run_directory.send(path, LIMIT.message(name=self.limit))
        except OSError:
            log.event(f"{self.limit}.killed", logging.ERROR, run=name, number=number)
            worker.kill()
