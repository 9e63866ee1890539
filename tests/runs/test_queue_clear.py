"""A line that is cleared: everything in it ends, and what comes after runs as ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from sandboxd.config import STEP_LIMITS
from sandboxd.errors import NotFound, Unavailable
from sandboxd.model import Step
from sandboxd.runs.run import Plan, Run

from .stage import Stage, follow, play, reply, text, told, vanishing

ROLES: tuple[Literal["bootstrap", "startup"], ...] = ("bootstrap", "startup")


def test_cleared_runs_vanish_and_those_asked_for_later_run(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        active, waiting = await stage.ask("a", "sleep 60"), await stage.ask("b", "out never")
        assert told([await reply(active) for _ in range(2)])[-1] == ("build-finished", 0)
        calls = [asyncio.create_task(vanishing(run)) for run in (active, waiting)]
        await asyncio.sleep(0.2)
        assert await stage.runs.clear() == [active, waiting]
        assert await asyncio.gather(*calls) == [None, None]
        assert text(*await follow(await stage.ask("c", "out new"))) == "new\n"
        assert stage.started == ["a", "c"]
        with pytest.raises(NotFound):
            stage.runs.get("b")

    play(tmp_path, scenario)


def test_a_run_that_is_just_being_started_is_killed_as_soon_as_it_has(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.ask("a", "sleep 60")
        assert stage.started == []  # its task has not had a turn yet
        assert await stage.runs.clear() == [run]
        assert "kill" in stage.log and run.done.is_set()

    play(tmp_path, scenario)


@pytest.mark.parametrize("how", ["interrupt", "clear"])
def test_run_that_is_called_off_is_forgotten_before_anybody_is_told(
    tmp_path: Path, how: str
) -> None:
    async def scenario(stage: Stage) -> None:
        @contextlib.asynccontextmanager
        async def place(run: Run) -> AsyncIterator[None]:
            withdrawn = asyncio.Event()
            with run.withdrawing(withdrawn.set):
                await withdrawn.wait()
            raise Unavailable("the run was ended before it began")
            yield

        async def forget(runs: Sequence[Run]) -> None:
            await asyncio.sleep(0.05)
            for run in runs:
                stage.kept.pop(run.number, None)

        stage.place = place  # type: ignore[method-assign, assignment]  # all places are taken
        stage.forget = forget  # type: ignore[method-assign]  # on a slow disk
        run = await stage.ask("a", "out never")

        async def called() -> dict[int, Run]:
            assert await vanishing(run) is None
            return dict(stage.kept)

        call = asyncio.create_task(called())
        await asyncio.sleep(0.01)
        await (stage.runs.interrupt() if how == "interrupt" else stage.runs.clear())
        assert stage.kept == {}, "or the next daemon would begin it"
        assert await call == {}

    play(tmp_path, scenario)


def test_sessions_own_runs_are_taken_down_again_before_they_are_ended(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        commands = {"clean": None, "build": None, "exec": "sleep 60"}
        steps = tuple(
            Step(name, commands[name], STEP_LIMITS) for name in ("clean", "build", "exec")
        )
        plans = [(role, Plan(steps, role=role)) for role in ROLES]
        await stage.runs.begin(plans)
        old = [stage.runs.get(role) for role in ROLES]
        while not stage.shims:
            await asyncio.sleep(0.01)
        kept: list[list[int]] = []
        kill = old[0].kill

        async def overheard() -> None:
            kept.append(list(stage.kept))
            await kill()

        old[0].kill = overheard  # type: ignore[method-assign, assignment]  # the moment is what counts
        assert await stage.runs.clear() == old
        assert kept == [[3, 4]], "a daemon that is killed now leaves these to the next"
        assert [stage.runs.get(role).number for role in ROLES] == [3, 4]
        assert stage.runs.active is stage.runs.get("bootstrap")

    play(tmp_path, scenario)


def test_sessions_own_runs_begin_again_once_when_it_is_cleared_twice_at_a_time(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        take_down, waits = stage.take_down, iter([0.0, 0.02, 0.5])

        async def slow(runs: Sequence[Run], instead: Sequence[Run] = ()) -> None:
            await asyncio.sleep(next(waits))
            await take_down(runs, [run for run in instead if run.number in stage.kept])

        stage.take_down = slow  # type: ignore[method-assign]
        steps = tuple(Step(name, None, STEP_LIMITS) for name in ("clean", "build"))
        steps += (Step("exec", "sleep 60", STEP_LIMITS),)
        await stage.runs.begin([(role, Plan(steps, role=role)) for role in ROLES])
        while not stage.shims:
            await asyncio.sleep(0.01)
        await asyncio.gather(stage.runs.clear(), stage.runs.clear())
        assert sorted(run.id for run in stage.kept.values()) == sorted(ROLES)

    play(tmp_path, scenario)


def test_clearing_an_empty_line_does_nothing(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await follow(run := await stage.ask("a", "out x"))
        assert await stage.runs.clear() == []
        assert told([await reply(run)])[-1] == ("finished", 0)

    play(tmp_path, scenario)


def test_who_keeps_account_is_told_of_each_run_before_the_next_begins(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        seen: list[tuple[str, list[str]]] = []

        async def over(run: Run) -> None:
            await asyncio.sleep(0.05)
            seen.append((run.id, list(stage.started)))
            stage.runs.notice = f"{run.id} is over"

        stage.over = over  # type: ignore[method-assign]  # overheard
        first, second = await stage.ask("a", "out x"), await stage.ask("b", "out y")
        await follow(first)
        items = [item for each in await follow(second) for item in each.console]
        await asyncio.sleep(0.1)
        assert seen == [("a", ["a"]), ("b", ["a", "b"])]
        assert [item[1][3] for item in items if item[0] == "log"] == ["a is over"]

    play(tmp_path, scenario)


def test_what_was_printed_can_be_read_without_moving_a_clients_position(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.ask("a", "out x\nerr y")
        assert await run.printed() == []
        await run.done.wait()
        for _ in range(2):
            assert await run.printed() == [["stdout", "x\n"], ["stderr", "y\n"]]
        assert text(*await follow(run)) == "x\n"

    play(tmp_path, scenario)
