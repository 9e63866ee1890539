"""A run queue over a shim that plays scripts, and a client of its runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandboxd.config.settings import STEP_LIMITS, ConsoleConfig
from sandboxd.errors import StageError
from sandboxd.model import Step
from sandboxd.runs.channel import Channel
from sandboxd.runs.follower import StartedRun
from sandboxd.runs.plan import Plan
from sandboxd.runs.queue import RunQueue
from sandboxd.runs.reply import Reply
from sandboxd.runs.run import Run
from tests.api.fake_shim import KEEP, FakeShim

from ..waiting import PATIENCE_S

Scenario = Callable[["Stage"], Awaitable[None]]


class Stage:
    """The host of a run queue, whose runs are played below `base`.

    rows       the runs that are recorded, by number
    accounted  ids of the runs that are accounted for
    """

    def __init__(self, base: Path, keep: ConsoleConfig) -> None:
        self.base, self.log, self.started = base, list[str](), list[str]()
        self.fails: StageError | None = None
        self.mistaken = ""
        self.shims: list[FakeShim] = []
        self.keep, self.runs = keep, RunQueue(self, keep)
        self.count = 0
        self.rows: dict[int, Run] = {}
        self.accounted: list[str] = []

    async def record_runs(
        self, runs: Sequence[Run], replaced: Sequence[Run] = ()
    ) -> Awaitable[object]:
        for run in replaced:
            del self.rows[run.number]
        for run in runs:
            self.count += 1
            run.number = self.count
            self.rows[run.number] = run
        durable: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        durable.set_result(None)
        return durable

    @contextlib.asynccontextmanager
    async def admit_run(self, run: Run) -> AsyncIterator[StartedRun | None]:
        yield None

    async def find_run(self, run: Run) -> StartedRun | None:
        return None

    async def run_over(self, run: Run) -> None:
        self.accounted.append(run.id)

    async def forget_runs(self, runs: Sequence[Run]) -> None:
        for run in runs:
            del self.rows[run.number]

    async def start_run(self, run: Run) -> StartedRun:
        if self.fails:
            raise self.fails
        if run.id == self.mistaken:
            raise ZeroDivisionError
        self.started.append(run.id)
        order = {"steps": [asdict(step) for step in run.plan.steps], "environ": run.plan.environ}
        spool = self.base / str(len(self.started))
        shim = FakeShim(order, None, self.base, spool, self.log, self.keep)
        cursor = os.open(spool / "cursor", os.O_RDWR | os.O_CREAT)
        console, journal = os.dup(shim.console), os.dup(shim.journal)
        started = StartedRun(Channel(shim.theirs), console, journal, cursor)
        self.shims.append(shim)
        shim.start()
        return started

    async def submit(
        self, id: str, exec: str | None = None, build: str | None = None, own: bool = False
    ) -> Run:
        """A new run in the queue; `own`: a run of the session itself."""
        commands = {"clean": None, "build": build, "exec": exec}
        steps = tuple(
            Step(name, commands[name], STEP_LIMITS) for name in ("clean", "build", "exec")
        )
        plan = Plan(steps, options=repr(commands), role="bootstrap" if own else "")
        return await self.runs.submit(id, plan)


def play(tmp_path: Path, scenario: Scenario, keep: ConsoleConfig = KEEP) -> None:
    async def go() -> None:
        stage = Stage(tmp_path, keep)
        before = len(os.listdir("/proc/self/fd"))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(stage)
        finally:
            await stage.runs.close()
            for shim in stage.shims:
                await asyncio.to_thread(shim.kill)
        for _ in range(100):  # a thread may still be closing what a cancelled task gave up
            if (
                now := len(os.listdir("/proc/self/fd"))
            ) <= before:  # those of earlier tests go, too
                return
            await asyncio.sleep(0.02)
        assert now <= before, "descriptors are left"

    asyncio.run(go())


async def reply(run: Run, *args: Any, **more: Any) -> Reply:
    async with run.call(*args, **more) as reply:
        assert reply is not None
        return reply


async def vanishing(run: Run) -> Reply | None:
    """The reply of a call that may have none."""
    async with run.call() as reply:
        return reply


async def follow(run: Run) -> list[Reply]:
    """All replies to the end."""
    replies = [await reply(run)]
    while replies[-1].answer.status not in ("finished", "exec-timeout"):
        replies.append(await reply(run))
    return replies


def statuses(replies: list[Reply]) -> list[tuple[str, int | None]]:
    return [(r.answer.status, r.answer.exit_code) for r in replies]


def text(*replies: Reply) -> str:
    return "".join(data for r in replies for kind, data in r.console if kind == "stdout")
