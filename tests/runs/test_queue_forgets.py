"""The finished runs of a run queue: how many are kept, for how long, and which are forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.errors import NotFound
from sandboxd.runs.finished_runs import TOGETHER
from sandboxd.runs.plan import Plan
from sandboxd.runs.run import Run
from tests.api.fake_shim import KEEP

from ..waiting import eventually
from .stage import Stage, follow, play, reply, text


def test_run_that_is_over_has_forgotten_its_commands(tmp_path: Path) -> None:
    """A client that asks for no end has 64 of them in each session."""

    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out done\n#" + "x" * 1000)
        await run.done.wait()
        assert [step.command for step in run.plan.steps] == [None, None, ""]
        assert text(*await follow(run)) == "done\n"

    play(tmp_path, scenario)


def test_oldest_finished_runs_are_forgotten_and_the_newest_stay(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        for number in range(KEEP.runs_kept + 2):
            await follow(await stage.submit(str(number), exec=f"out {number}"))
        await asyncio.sleep(0.1)
        with pytest.raises(NotFound):
            stage.runs.get("0")
        assert text(await reply(stage.runs.get(str(KEEP.runs_kept)))) == f"{KEEP.runs_kept}\n"

    play(tmp_path, scenario)


def test_result_that_was_not_served_is_not_pushed_out(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        unseen = await stage.submit("unseen", exec="out precious")
        for number in range(KEEP.runs_kept + 2):
            await follow(await stage.submit(str(number), exec="out x"))
        assert stage.runs.get("unseen") is unseen
        assert text(*await follow(unseen)) == "precious\n"

    play(tmp_path, scenario)


def test_finished_run_is_forgotten_when_its_time_is_over(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out x")
        await follow(run)
        await run.done.wait()
        await stage.runs.expire(run.ended_at + 59)
        assert stage.runs.get("a") is run
        await stage.runs.expire(run.ended_at + 60)
        with pytest.raises(NotFound):
            stage.runs.get("a")
        assert not stage.rows  # nor for the next daemon, nor on disk

    play(tmp_path, scenario, replace(KEEP, keep_s=60))


def test_finished_runs_are_forgotten_beyond_a_size_but_the_newest_stays(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        for id in ("a", "b", "c"):
            run = await stage.submit(id, exec="flood 100000")
            await follow(run)
            await run.done.wait()
        await asyncio.sleep(0.1)
        assert [run.id for run in stage.rows.values()] == ["c"]

    play(tmp_path, scenario, replace(KEEP, kept_size=1))


def test_forgotten_runs_are_unknown_at_once_and_removed_together(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        removals, forget = list[int](), stage.forget_runs

        async def forget_runs(runs: Sequence[Run]) -> None:
            removals.append(len(runs))
            await forget(runs)

        stage.forget_runs = forget_runs  # type: ignore[method-assign]  # counted
        count = KEEP.runs_kept + TOGETHER - 1
        for number in range(count):
            await follow(await stage.submit(str(number), exec="out x"))
        await eventually(lambda: not known(stage, str(TOGETHER - 2)))
        assert removals == [] and len(stage.rows) == count
        await stage.runs.expire(0)
        assert removals == [TOGETHER - 1] and len(stage.rows) == KEEP.runs_kept
        # One more: a client may take the end of a run when room has been made already.
        for number in range(count, count + TOGETHER + 1):
            await follow(await stage.submit(str(number), exec="out x"))
        await eventually(lambda: removals[1:] in ([TOGETHER], [TOGETHER + 1]))

    def known(stage: Stage, id: str) -> bool:
        with contextlib.suppress(NotFound):
            return bool(stage.runs.get(id))
        return False

    play(tmp_path, scenario)


def test_runs_that_an_earlier_daemon_forgot_and_did_not_remove_are_removed(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        plan, count = Plan(()), KEEP.runs_kept + TOGETHER
        old = [Run(str(number), plan, KEEP, number) for number in range(1, count + 1)]
        for run in old:
            run.ended_at = 1.0
            stage.rows[run.number] = run
        stage.find_run = stage.start_run  # type: ignore[method-assign]  # its files are there
        await stage.runs.restore(old)
        for run in old:
            await reply(run)
        await stage.runs._finished.forget_oldest()
        assert len(stage.rows) == KEEP.runs_kept

    play(tmp_path, scenario)
