"""What is begun now, what waits, and what is refused: fair_queue.py for runs and for sessions.

A run is a count and its memory limit, a session a count and the size of its scratch; a virtual
folder is a size of disk as well. Everything is promised before it begins and is given back when
it is over, by whoever took it, in a `finally`. Whenever something is given back, or the bounds
change, those are woken whose turn has come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ...config import Config
from ...errors import Draining, Full, NoSpace, QuotaExceeded, RateLimited, Unavailable
from ...model import GIB
from ...runs.queue import RunQueue
from ...runs.run import Plan, Run
from .capacity import HostCapacity
from .fair_queue import Amount, FairQueue, Reason

DRAINED = "the server is being drained: nothing new begins for now"

TOLD_S = 1.0
"""A run that has waited longer says so when it begins."""

Bounds = Callable[[], tuple[Amount, Amount]]
"""What all together, and one owner, may have now."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where somebody waits, as clients are told: `position` 1 is next."""

    position: int
    reason: str


class Places:
    """What is given to those whose turn it is: `what` ("run", "session"), of `stuff` ("memory")."""

    def __init__(
        self, what: str, stuff: str, bounds: Bounds, scarce: Callable[[], bool] = lambda: False
    ) -> None:
        self._what = what
        self._scarce = scarce  # the host has none of the stuff, whatever was promised
        self._stuff = stuff
        self._bounds = bounds
        self.on_leave: Callable[[], None] = lambda: None
        self._futures: dict[Hashable, asyncio.Future[bool]] = {}
        self.turns = FairQueue(*bounds())

    def look(self) -> None:
        """Give places to those whose turn it is. To be called when anything has changed."""
        self.turns.total, self.turns.owner = self._bounds()
        for key in self.turns.due():
            if (future := self._futures.get(key)) and not future.done():
                future.set_result(True)

    def pause(self, paused: bool) -> None:
        """Let nobody have anything any more, or go on."""
        self.turns.paused = paused
        self.look()

    def take(self, key: Hashable, owner: str, amount: Amount) -> None:
        """A place for what has been going on since before the daemon was started."""
        self.turns.take(key, owner, amount)

    def now(self, key: Hashable, owner: str, amount: Amount) -> None:
        """A place at once. Raises QuotaExceeded, Full, NoSpace or Draining when there is
        none."""
        self.turns.ask(key, owner, amount)
        self.look()
        standing = self.turns.standing(key)
        if standing is None:
            return
        self.leave(key)
        told = self._told(standing.reason)
        if standing.reason == "paused":
            raise Draining(told)
        if standing.reason in ("owner size", "size") and self._scarce():
            raise NoSpace(f"the server's disk is full: {told}")
        if standing.reason in ("owner count", "owner size"):
            raise QuotaExceeded(told)
        raise Full(told)

    async def wait(self, key: Hashable, owner: str, amount: Amount) -> bool:
        """A place when its turn comes; False when it was withdrawn. Who is cancelled has none."""
        self.ask(key, owner, amount)
        return await self.turn(key)

    def ask(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Go into line; `turn` waits."""
        self._futures[key] = asyncio.get_running_loop().create_future()
        self.turns.ask(key, owner, amount)
        self.look()

    async def turn(self, key: Hashable) -> bool:
        """The second half of `wait`."""
        try:
            return await self._futures[key]
        except BaseException:
            self.leave(key)
            raise
        finally:
            del self._futures[key]

    def withdraw(self, key: Hashable) -> None:
        """Have `wait` return, if it still waits."""
        future = self._futures.get(key)
        if future and not future.done():
            future.set_result(False)
            self.leave(key)

    def leave(self, key: Hashable) -> None:
        """Give a place back; who has none may say so, too."""
        self.turns.leave(key)
        self.look()
        self.on_leave()

    def waiting(self, key: Hashable) -> Waiting | None:
        """Where `key` waits; None: it does not."""
        standing = self.turns.standing(key)
        if standing is None:
            return None
        return Waiting(standing.position, self._told(standing.reason))

    def _told(self, reason: Reason) -> str:
        total, owner = self.turns.total, self.turns.owner
        match reason:
            case "owner count":
                return f"one owner may have at most {owner.count} {self._what}s at once"
            case "owner size":
                return (
                    f"one owner may be promised {_gib(owner.size)} of {self._stuff}, of which "
                    "too little is left"
                )
            case "count":
                return f"this host takes on at most {total.count} {self._what}s at once"
            case "size":
                return (
                    f"this host promises {_gib(total.size)} of {self._stuff}, of which "
                    f"{_gib(max(0, total.size - self.turns.used.size))} are left"
                )
            case "paused":
                return DRAINED
        return f"other {self._what}s come first"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


class Admission:
    """The places for runs and for sessions of this daemon, by `config`, which may change."""

    def __init__(self, config: Config, host: HostCapacity) -> None:
        self.config = config
        self.host = host
        self.runs = Places("run", "memory", self._of_runs)
        self.sessions = Places("session", "disk", self._of_sessions, self._disk_is_full)

    def _of_runs(self) -> tuple[Amount, Amount]:
        bounds, memory = self.config.admission, self.host.memory
        return (
            Amount(bounds.runs, int(bounds.memory * memory)),
            Amount(bounds.owner.runs, int(bounds.owner.memory * memory)),
        )

    def _of_sessions(self) -> tuple[Amount, Amount]:
        bounds = self.config.admission
        owner = bounds.owner
        total, own = bounds.disk * self.host.free, owner.disk * self.host.free
        if self.config.scratch.kind == "tmpfs":  # then a scratch is memory, and not sparse
            total, own = bounds.memory * self.host.memory, owner.memory * self.host.memory
        return Amount(self.config.slots.count, int(total)), Amount(owner.sessions, int(own))

    def _disk_is_full(self) -> bool:
        sparse = self.config.scratch.kind != "tmpfs"
        return sparse and self.host.free < self.config.disk_floor

    def renew(self, config: Config) -> None:
        """Go by another configuration from now on."""
        self.config = config
        self.runs.look()
        self.sessions.look()

    async def look(self) -> None:
        """Take a look at the host, and give places to those who wait for what it has now."""
        await asyncio.to_thread(self.host.look)
        self.runs.look()
        self.sessions.look()

    async def promise_disk(self, key: Hashable, owner: str, amount: Amount) -> None:
        """A place for a session or a folder at once, as `Places.now`.

        The free space is that of the last look, a second ago perhaps. A disk that was full then
        may have room now, so a refusal for a full disk takes another look.
        """
        try:
            self.sessions.now(key, owner, amount)
        except NoSpace:
            await self.look()
            self.sessions.now(key, owner, amount)

    def pause(self, paused: bool) -> None:
        """Let nothing new begin, or go on."""
        self.runs.pause(paused)
        self.sessions.pause(paused)

    @property
    def paused(self) -> bool:
        """Nothing new begins."""
        return self.runs.turns.paused

    @property
    def going_on(self) -> list[Run]:
        """The runs that have a place."""
        return [run for run in self.runs.turns.holders if isinstance(run, Run)]

    @asynccontextmanager
    async def place(
        self, owner: str, run: Run, waits: bool = True, has: bool = False
    ) -> AsyncIterator[None]:
        """A place for a run as long as the `with` lasts; one that goes on `has` it already. Raises
        Unavailable when the run is not wanted any more before its turn has come; what `now` does
        when it is not to wait."""
        try:
            if has:
                self.runs.take(run, owner, promise(run.plan))
            elif waits:
                await self._await_turn(owner, run)
            else:
                self.runs.now(run, owner, promise(run.plan))
            yield
        finally:
            self.runs.leave(run)

    async def _await_turn(self, owner: str, run: Run) -> None:
        began = time.monotonic()
        with run.withdrawing(lambda: self.runs.withdraw(run)):
            turn = not run.unwanted and await self.runs.wait(run, owner, promise(run.plan))
            if not turn or run.unwanted:  # or became so at the moment of its turn
                raise Unavailable("the run was ended before it began")
        if (waited := time.monotonic() - began) >= TOLD_S:
            run.notice(f"this run has waited {waited:.0f} s for its turn", "info")

    def waiting(self, runs: RunQueue, run: Run) -> Waiting | None:
        """Where a run of the line `runs` waits; None: it does not."""
        before, head = runs.position(run), self.runs.waiting(runs.active)
        if before:
            ahead = before + (head.position if head else 0)
            return Waiting(ahead, "other runs of this session come first")
        return head if run is runs.active else None

    def check_waiting(self, waiting: int, what: str) -> None:
        """Raises RateLimited when an owner of whom so many wait may not have one more wait."""
        most = self.config.admission.owner.waiting
        if waiting >= most:
            raise RateLimited(f"{waiting} of your {what} wait already, and no more than {most} may")


def promise(plan: Plan) -> Amount:
    """What a run of `plan` is promised: one step at a time, so the memory of the largest."""
    most = max((step.limits.memory for step in plan.steps if step.command is not None), default=0)
    return Amount(1, most)
