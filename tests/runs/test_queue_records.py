"""The records of runs: a run begins before its record is on the disk, and is answered after it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

from sandboxd.errors import Unavailable
from sandboxd.runs.run import Run

from ..waiting import eventually
from .stage import Stage, follow, play, statuses, text


class SlowDisk:
    """The disk of a stage, on which records come when the test says so."""

    def __init__(self, stage: Stage) -> None:
        self.durable: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._record = stage.record_runs
        stage.record_runs = self.record_runs  # type: ignore[method-assign]  # of this stage

    async def record_runs(
        self, runs: Sequence[Run], replaced: Sequence[Run] = ()
    ) -> Awaitable[object]:
        await self._record(runs, replaced)
        return self.durable


def test_run_begins_while_its_record_comes_to_the_disk_and_is_answered_after_that(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        disk = SlowDisk(stage)
        first = asyncio.create_task(stage.submit("a", exec="out x"))
        await eventually(lambda: stage.accounted == ["a"])
        again = asyncio.create_task(stage.submit("a", exec="out x"))
        await asyncio.sleep(0)
        assert not first.done() and not again.done()
        disk.durable.set_result(None)
        assert await first is await again
        assert text(*await follow(await first)) == "x\n"

    play(tmp_path, scenario)


def test_run_whose_record_the_disk_does_not_take_is_ended(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        disk = SlowDisk(stage)
        tasks = [asyncio.create_task(stage.submit(id, exec="sleep 60")) for id in ("a", "b")]
        await eventually(lambda: stage.shims)
        disk.durable.set_exception(Unavailable("the disk is broken"))
        for task in tasks:
            with pytest.raises(Unavailable, match="broken"):
                await task
        await eventually(lambda: not stage.runs.active)
        assert stage.started == ["a"]

    play(tmp_path, scenario)


def test_caller_that_goes_away_takes_no_record_away_from_another(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        disk = SlowDisk(stage)
        tasks = [asyncio.create_task(stage.submit("a", exec="out x")) for _ in range(2)]
        await eventually(lambda: stage.accounted == ["a"])
        tasks[0].cancel()
        await asyncio.sleep(0)
        disk.durable.set_result(None)
        assert (await tasks[1]).id == "a"

    play(tmp_path, scenario)


def test_runs_behind_one_that_the_database_cannot_account_for_are_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(stage: Stage) -> None:
        account = stage.run_over

        async def fail_once(run: Run) -> None:
            if run.id == "first":
                raise sqlite3.DatabaseError("database disk image is malformed")
            await account(run)

        monkeypatch.setattr(stage, "run_over", fail_once)
        first, second = [await stage.submit(id, exec="out x") for id in ("first", "second")]
        for run in (first, second):
            assert statuses(await follow(run))[-1] == ("finished", 0)
        await second.done.wait()
        await eventually(lambda: stage.accounted == ["second"])

    play(tmp_path, scenario)
