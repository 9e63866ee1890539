"""The admission of runs and sessions: each begins now, waits for its turn, or is refused.

A run reserves a count, its memory limit and its tasks, a session a count and the size of its
scratch, and a virtual folder disk space. Each reserves before it begins; the task that made the
reservation releases it in a `finally`. At each release, and at each change of the bounds, the
waiting tasks whose turn has come wake up. fair_queue.py has the rule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from ...config.settings import Config
from ...errors import Full, Invalid, NoSpace, QuotaExceeded, RateLimited, Unavailable
from ...host.tasks import OWN_TASKS
from ...model import GIB, MIB
from ...runs.plan import Plan
from ...runs.queue import RunQueue
from ...runs.run import Run
from .capacity import HostCapacity
from .fair_queue import Amount, FairQueue, Reason
from .pauses import Pause, Pauses

NOTICE_S = 1.0
"""A run that has waited longer gets a notice when it begins."""

AdmissionMode = Literal["in turn", "at once", "goes on"]
"""How a run is admitted: it waits for its turn; at once or not at all; an earlier daemon has begun
it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The amounts that may be reserved now, by all together and by one owner.

    host_full  the host itself has nothing left of the resource, for any reservations
    """

    total: Amount
    owner: Amount
    host_full: bool = False


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """A place in a queue, for clients: `position` 1 is next, and `reason` says why it waits."""

    position: int
    reason: str


class Reservations:
    """The reservations of a kind ("run", "session"), each of a count and of a `resource`
    ("memory", "disk").

    on_release  is called after each release
    """

    def __init__(self, kind: str, resource: str, bounds: Bounds) -> None:
        self._kind = kind
        self._resource = resource
        self._host_full = bounds.host_full
        self._turns: dict[Hashable, asyncio.Future[bool]] = {}
        self.pauses = Pauses()
        self.queue = FairQueue(bounds.total, bounds.owner)
        self.on_release: Callable[[], None] = lambda: None

    def set_bounds(self, bounds: Bounds) -> None:
        """Go by other bounds from now on."""
        self.queue.total, self.queue.owner = bounds.total, bounds.owner
        self._host_full = bounds.host_full
        self._grant()

    def pause(self, why: Pause) -> None:
        """Grant nothing until `resume`."""
        self.pauses.add(why)
        self.queue.paused = True

    def resume(self, why: Pause) -> None:
        """End a pause. Nothing is granted while another one lasts."""
        self.pauses.discard(why)
        self.queue.paused = bool(self.pauses)
        self._grant()

    def _grant(self) -> None:
        """Wake up the tasks whose turn has come."""
        for key in self.queue.grant_due():
            if (turn := self._turns.get(key)) and not turn.done():
                turn.set_result(True)

    def take(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Reserve for something that has been going on since before the daemon was started."""
        self.queue.grant(key, owner, amount)

    def reserve(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Reserve at once. Raises QuotaExceeded, Full, NoSpace, Draining or, in another pause,
        Unavailable when that cannot be."""
        self.queue.enqueue(key, owner, amount)
        self._grant()
        place = self.queue.place(key)
        if place is None:
            return
        _, reason = place
        self.release(key)
        if refusal := self.pauses.refusal:
            raise refusal
        text = self._explanation(reason)
        if reason in ("owner size", "size") and self._host_full:
            raise NoSpace(f"the server's disk is full: {text}")
        if reason in ("owner count", "owner size", "owner tasks"):
            raise QuotaExceeded(text)
        raise Full(text)

    async def reserve_in_turn(self, key: Hashable, owner: str, amount: Amount) -> bool:
        """Reserve when the turn comes; False when `key` was withdrawn. A task that is cancelled
        has reserved nothing."""
        self.enqueue(key, owner, amount)
        return await self.granted(key)

    def enqueue(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Begin to wait for a reservation; `granted` waits for its turn."""
        self._turns[key] = asyncio.get_running_loop().create_future()
        self.queue.enqueue(key, owner, amount)
        self._grant()

    async def granted(self, key: Hashable) -> bool:
        """Wait for the turn of `key`; False when it was withdrawn."""
        try:
            return await self._turns[key]
        except BaseException:  # a task that is cancelled reserves nothing
            self.release(key)
            raise
        finally:
            del self._turns[key]

    def withdraw(self, key: Hashable) -> None:
        """End the wait of `key`, if it still waits."""
        turn = self._turns.get(key)
        if turn and not turn.done():
            turn.set_result(False)
            self.release(key)

    def release(self, key: Hashable) -> None:
        """Release a reservation; nothing happens if there is none."""
        self.queue.release(key)
        self._grant()
        self.on_release()

    def place(self, key: Hashable) -> QueuePlace | None:
        """Where `key` waits; None: it does not."""
        place = self.queue.place(key)
        if place is None:
            return None
        position, reason = place
        return QueuePlace(position, self._explanation(reason))

    def _explanation(self, reason: Reason) -> str:
        total, owner = self.queue.total, self.queue.owner
        match reason:
            case "owner count":
                return f"one owner may have at most {owner.count} {self._kind}s at once"
            case "owner size":
                return (
                    f"one owner may be promised {_size(owner.size)} of {self._resource} at once, "
                    "and the sessions and runs of this owner leave too little of it"
                )
            case "count":
                return f"this host takes on at most {total.count} {self._kind}s at once"
            case "size":
                return (
                    f"this host promises {_size(total.size)} of {self._resource}, of which "
                    f"{_size(max(0, total.size - self.queue.used.size))} are left"
                )
            case "owner tasks":
                return f"one owner may be promised {owner.tasks} tasks, of which too few are left"
            case "tasks":
                left = max(0, total.tasks - self.queue.used.tasks)
                return f"this host promises {total.tasks} tasks, of which {left} are left"
            case "paused":
                return str(self.pauses.refusal)
        return f"other {self._kind}s come first"


def _size(size: int) -> str:
    """An amount for a message, in the unit that shows it."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


class Admission:
    """The reservations for runs and for sessions of this daemon, by `config`, which may change."""

    def __init__(self, config: Config, capacity: HostCapacity) -> None:
        self.config = config
        self._capacity = capacity
        self.runs = Reservations("run", "memory", self._run_bounds())
        self.sessions = Reservations("session", "disk", self._session_bounds())

    def _run_bounds(self) -> Bounds:
        bounds, owner = self.config.admission, self.config.admission.owner
        memory, tasks = self._capacity.memory, self._capacity.tasks.free
        return Bounds(
            Amount(bounds.runs, int(bounds.memory * memory), int(bounds.tasks * tasks)),
            Amount(owner.runs, int(owner.memory * memory), int(owner.tasks * tasks)),
        )

    def _session_bounds(self) -> Bounds:
        bounds, owner = self.config.admission, self.config.admission.owner
        total, own = bounds.disk * self._capacity.free, owner.disk * self._capacity.free
        full = self._capacity.free < self.config.disk_floor
        if self.config.scratch.kind == "tmpfs":  # then a scratch is memory, and not sparse
            total, own = bounds.memory * self._capacity.memory, owner.memory * self._capacity.memory
            full = False
        slots = self.config.slots.count
        return Bounds(Amount(slots, int(total)), Amount(owner.sessions, int(own)), full)

    def renew(self, config: Config) -> None:
        """Go by another configuration from now on."""
        self.config = config
        self._set_bounds()

    async def refresh(self) -> None:
        """Measure the capacity of the host again, and go by it from now on."""
        await asyncio.to_thread(self._capacity.refresh)
        self._set_bounds()

    def _set_bounds(self) -> None:
        self.runs.set_bounds(self._run_bounds())
        self.sessions.set_bounds(self._session_bounds())

    async def reserve_disk(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Reserve for a session or a folder at once, as `Reservations.reserve`.

        The free space was measured up to a second ago. A disk that was full then may have room
        now, so it is measured again before a refusal for a full disk.
        """
        try:
            self.sessions.reserve(key, owner, amount)
        except NoSpace:
            await self.refresh()
            self.sessions.reserve(key, owner, amount)

    def pause(self, why: Pause) -> None:
        """Let nothing new begin until `resume`."""
        self.runs.pause(why)
        self.sessions.pause(why)

    def resume(self, why: Pause) -> None:
        """End a pause. Nothing begins while another one lasts."""
        self.runs.resume(why)
        self.sessions.resume(why)

    @property
    def are_waiting(self) -> bool:
        """A run or a session waits for its turn."""
        return bool(self.runs.queue.queued or self.sessions.queue.queued)

    def check_pause(self) -> None:
        """Raise Draining or Unavailable while nothing new begins."""
        if refusal := self.sessions.pauses.refusal:
            raise refusal

    @property
    def going_on(self) -> list[Run]:
        """The runs that have a reservation."""
        return [run for run in self.runs.queue.holders if isinstance(run, Run)]

    @asynccontextmanager
    async def admit(self, owner: str, run: Run, mode: AdmissionMode) -> AsyncIterator[None]:
        """Admit a run, for as long as the `with` lasts.

        Raises Unavailable when the run becomes unwanted before its turn has come; the errors
        of `reserve` when it is to begin at once.
        """
        amount = run_amount(run.plan)
        try:
            if mode == "goes on":
                self.runs.take(run, owner, amount)
            elif mode == "at once":
                self.runs.reserve(run, owner, amount)
            else:
                await self._await_turn(owner, run, amount)
            yield
        finally:
            self.runs.release(run)

    async def _await_turn(self, owner: str, run: Run, amount: Amount) -> None:
        began = time.monotonic()
        with run.withdrawing(lambda: self.runs.withdraw(run)):
            granted = not run.unwanted and await self.runs.reserve_in_turn(run, owner, amount)
            if not granted or run.unwanted:  # or became so at the moment of its turn
                raise Unavailable("the run was ended before it began")
        if (waited := time.monotonic() - began) >= NOTICE_S:
            run.notice(f"this run has waited {waited:.0f} s for its turn", "info")

    def has_room(self, owner: str, run: Run) -> bool:
        """A run would begin at once, if it asked now for its turn."""
        return self.runs.queue.has_room(owner, run_amount(run.plan))

    def place(self, runs: RunQueue, run: Run) -> QueuePlace | None:
        """Where a run of the queue `runs` waits; None: it does not."""
        before, head = runs.position(run), self.runs.place(runs.active)
        if before:
            ahead = before + (head.position if head else 0)
            return QueuePlace(ahead, "other runs of this session come first")
        return head if run is runs.active else None

    def check_pids(self, pids: int, where: str) -> None:
        """Raise Invalid, which names `where`, for a limit of tasks that no run can ever have here:
        also without any other task this host would have too few. A run that would fit without the
        other tasks waits for them. A bound that was too low a while ago may have been raised, so
        it is measured again before a refusal. Raises Full where no run at all could begin, which
        no other limit would change."""
        if pids + OWN_TASKS > self._most_tasks():
            self._capacity.measure_tasks()
            self._set_bounds()
        most = self._most_tasks()
        if most <= OWN_TASKS:
            raise Full(f"this host promises {most} tasks in all, too few for any run")
        if pids + OWN_TASKS > most:
            text = f"at most {most - OWN_TASKS}: this host promises {most} tasks in all"
            raise Invalid.of({where: text})

    def _most_tasks(self) -> int:
        """The tasks that runs could be promised if there were no others."""
        return int(self.config.admission.tasks * self._capacity.tasks.most)

    def check_plan(self, plan: Plan) -> None:
        """As `check_pids`, for each step of a run."""
        for step in plan.steps:
            if step.command is not None:
                self.check_pids(step.limits.pids, f"limits.{step.name}.pids")

    def check_queued(self, queued: int, kind: str) -> None:
        """Raise RateLimited when an owner, of whom so many wait, may not have one more wait."""
        most = self.config.admission.owner.waiting
        if queued >= most:
            raise RateLimited(f"{queued} of your {kind} wait already; at most {most} may wait")


def run_amount(plan: Plan) -> Amount:
    """The amount that a run reserves: one step at a time, so the memory and the tasks of the
    largest, and the tasks of sandboxd in it."""
    limits = [step.limits for step in plan.steps if step.command is not None]
    memory = max((each.memory for each in limits), default=0)
    return Amount(1, memory, max((each.pids for each in limits), default=0) + OWN_TASKS)
