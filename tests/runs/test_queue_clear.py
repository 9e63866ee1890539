"""The run queue when it is cleared: every run in it ends, and later runs begin as ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Literal

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.errors import Deleted, NotFound, Unavailable
from sandboxd.model import Step
from sandboxd.runs.follower import Follower
from sandboxd.runs.plan import Plan
from sandboxd.runs.run import Run

from ..processes import files
from ..waiting import eventually
from .stage import Stage, follow, play, reply, statuses, text, vanishing

ROLES: tuple[Literal["bootstrap", "startup"], ...] = ("bootstrap", "startup")


def test_cleared_runs_vanish_and_runs_submitted_later_begin(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        active, waiting = await stage.submit("a", "sleep 60"), await stage.submit("b", "out never")
        assert statuses([await reply(active) for _ in range(2)])[-1] == ("build-finished", 0)
        calls = [asyncio.create_task(vanishing(run)) for run in (active, waiting)]
        await asyncio.sleep(0.2)
        assert await stage.runs.clear() == [active, waiting]
        assert await asyncio.gather(*calls) == [None, None]
        assert text(*await follow(await stage.submit("c", "out new"))) == "new\n"
        assert stage.started == ["a", "c"]
        with pytest.raises(NotFound):
            stage.runs.get("b")

    play(tmp_path, scenario)


def test_cleared_run_that_is_just_being_started_is_killed_after_its_start(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", "sleep 60")
        assert stage.started == []  # its task has not had a turn yet
        assert await stage.runs.clear() == [run]
        assert "kill" in stage.log and run.done.is_set()

    play(tmp_path, scenario)


def test_queue_that_closes_while_a_run_begins_gives_back_its_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(stage: Stage) -> None:
        begins = asyncio.Event()

        async def follow(_: Follower) -> None:
            begins.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(Follower, "follow", follow)
        await stage.submit("a", "sleep 60")
        await begins.wait()
        spool = f"{stage.base}/1/"
        assert {"console", "cursor", "journal"} <= _opened(spool)
        stage.shims[0].kill()  # it has the console and the journal too
        await stage.runs.close()
        await eventually(lambda: _opened(spool) == set())  # a thread closes the cursor

    play(tmp_path, scenario)


def _opened(folder: str) -> set[str]:
    """Names of the files of `folder` that this process has open."""
    paths = files(os.getpid()).values()
    return {path.removeprefix(folder) for path in paths if path.startswith(folder)}


@pytest.mark.parametrize("how", ["interrupt", "clear"])
def test_run_that_is_called_off_is_forgotten_before_its_calls_end(tmp_path: Path, how: str) -> None:
    async def scenario(stage: Stage) -> None:
        @contextlib.asynccontextmanager
        async def admit_run(run: Run) -> AsyncIterator[None]:
            withdrawn = asyncio.Event()
            with run.withdrawing(withdrawn.set):
                await withdrawn.wait()
                raise Unavailable("the run was ended before it began")
            yield

        async def forget_runs(runs: Sequence[Run]) -> None:
            await asyncio.sleep(0.05)
            for run in runs:
                stage.rows.pop(run.number, None)

        stage.admit_run = admit_run  # type: ignore[method-assign]  # all memory is reserved
        stage.forget_runs = forget_runs  # type: ignore[method-assign]  # on a slow disk
        run = await stage.submit("a", "out never")

        async def called() -> dict[int, Run]:
            assert await vanishing(run) is None
            return dict(stage.rows)

        call = asyncio.create_task(called())
        await asyncio.sleep(0.01)
        await (stage.runs.interrupt() if how == "interrupt" else stage.runs.clear())
        assert stage.rows == {}, "or the next daemon would begin it"
        assert await call == {}
        await stage.runs.expire(time.time() + 60)
        assert stage.runs.get("a") is run, "its client may still ask for its end"

    play(tmp_path, scenario)


def test_own_runs_of_a_session_are_recorded_again_before_they_are_ended(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        commands = {"clean": None, "build": None, "exec": "sleep 60"}
        steps = tuple(
            Step(name, commands[name], STEP_LIMITS) for name in ("clean", "build", "exec")
        )
        plans = [(role, Plan(steps, role=role)) for role in ROLES]
        await stage.runs.submit_own(plans)
        old = [stage.runs.get(role) for role in ROLES]
        while not stage.shims:
            await asyncio.sleep(0.01)
        recorded: list[list[int]] = []
        kill = old[0].kill

        async def overheard() -> None:
            recorded.append(list(stage.rows))
            await kill()

        old[0].kill = overheard  # type: ignore[method-assign, assignment]  # the moment is what counts
        assert await stage.runs.clear() == old
        assert recorded == [[3, 4]], "a daemon that is killed now leaves these to the next"
        assert [stage.runs.get(role).number for role in ROLES] == [3, 4]
        assert stage.runs.active is stage.runs.get("bootstrap")

    play(tmp_path, scenario)


def test_own_runs_begin_again_once_when_the_queue_is_cleared_twice_at_a_time(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        record_runs, waits = stage.record_runs, iter([0.0, 0.02, 0.5])

        async def slow(runs: Sequence[Run], replaced: Sequence[Run] = ()) -> Awaitable[object]:
            await asyncio.sleep(next(waits))
            return await record_runs(runs, [run for run in replaced if run.number in stage.rows])

        stage.record_runs = slow  # type: ignore[method-assign]  # only this object is slow
        steps = tuple(Step(name, None, STEP_LIMITS) for name in ("clean", "build"))
        steps += (Step("exec", "sleep 60", STEP_LIMITS),)
        await stage.runs.submit_own([(role, Plan(steps, role=role)) for role in ROLES])
        while not stage.shims:
            await asyncio.sleep(0.01)
        await asyncio.gather(stage.runs.clear(), stage.runs.clear())
        assert sorted(run.id for run in stage.rows.values()) == sorted(ROLES)

    play(tmp_path, scenario)


@pytest.mark.parametrize("how", ["clear", "interrupt"])
def test_queue_that_is_closed_while_a_run_is_ended_says_at_once_that_its_session_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("deaf", "sleep 60")
        reached = asyncio.Event()

        async def never(*_: object) -> bool:
            reached.set()
            return True

        monkeypatch.setattr(run, "kill", never)  # nothing of it ends
        monkeypatch.setattr(run, "call_off", lambda: True)
        ending = asyncio.create_task(getattr(stage.runs, how)())
        await (reached.wait() if how == "clear" else asyncio.sleep(0))
        await stage.runs.close()
        with pytest.raises(Deleted):
            await ending
        with pytest.raises(Deleted):
            await stage.submit("later", "out x")

    play(tmp_path, scenario)


def test_clear_of_an_empty_queue_changes_nothing(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await follow(run := await stage.submit("a", "out x"))
        await run.done.wait()
        assert await stage.runs.clear() == []
        assert statuses([await reply(run)])[-1] == ("finished", 0)

    play(tmp_path, scenario)


def test_each_run_is_accounted_for_before_the_next_begins(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        seen: list[tuple[str, list[str]]] = []

        async def run_over(run: Run) -> None:
            await asyncio.sleep(0.05)
            seen.append((run.id, list(stage.started)))
            stage.runs.notice = f"{run.id} is over"

        stage.run_over = run_over  # type: ignore[method-assign]  # overheard
        first, second = await stage.submit("a", "out x"), await stage.submit("b", "out y")
        await follow(first)
        items = [item for each in await follow(second) for item in each.console]
        await asyncio.sleep(0.1)
        assert seen == [("a", ["a"]), ("b", ["a", "b"])]
        assert [item[1][3] for item in items if item[0] == "log"] == ["a is over"]

    play(tmp_path, scenario)


def test_printed_output_is_read_without_moving_the_clients_cursor(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", "out x\nerr y")
        assert await run.printed() == []
        await run.done.wait()
        for _ in range(2):
            assert await run.printed() == [["stdout", "x\n"], ["stderr", "y\n"]]
        assert text(*await follow(run)) == "x\n"

    play(tmp_path, scenario)
