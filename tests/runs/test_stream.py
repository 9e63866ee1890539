"""Runs whose client stays connected: output, input, and the end of the connection."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config.settings import ConsoleConfig
from sandboxd.errors import NotFound
from sandboxd.runs.client_calls import Input
from sandboxd.runs.polling import STREAM
from sandboxd.runs.reply import Reply
from sandboxd.runs.run import GRACE_S, Run

from .stage import Stage, follow, play, reply, text


async def stream(run: Run) -> list[Reply]:
    """All replies to a client that stays connected, to the end."""
    replies = [await reply(run, policy=STREAM)]
    while replies[-1].answer.status not in ("finished", "exec-timeout"):
        replies.append(await reply(run, policy=STREAM))
    return replies


def test_stream_has_output_when_it_comes_and_no_reply_without(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        replies = await stream(
            await stage.submit("a", exec="out one\nsleep 2.5\nout two\nsleep 0.5")
        )
        assert [(r.answer.status, text(r)) for r in replies] == [
            ("clean-finished", ""), ("build-finished", ""),
            ("continued", "one\n"), ("continued", "two\n"), ("finished", ""),
        ]  # fmt: skip

    play(tmp_path, scenario)


def test_stream_gathers_output_but_does_not_hold_the_end_of_a_step_back(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out one\nsleep 0.05\nout two\nsleep 0.05")
        patient = replace(STREAM, gather_s=60)
        while (last := await reply(run, policy=patient)).answer.status != "finished":
            pass
        assert text(last) == "one\ntwo\n"

    play(tmp_path, scenario)


def test_stream_loses_no_output_that_a_response_would_cut(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="flood 2500000\nout end", build="out built")
        replies = await stream(run)
        console = [item for r in replies for item in r.console]
        assert {kind for kind, _ in console} == {"stdout"}
        assert len(text(*replies)) == 2500000 // 8192 * 8192 + len("built\nend\n")
        assert max(len(text(r)) for r in replies) < 700_000
        statuses = [r.answer.status for r in replies]
        assert statuses[:2] == ["clean-finished", "build-finished"]
        assert len(statuses) > 5 and set(statuses[2:-1]) == {"continued"}

    play(tmp_path, scenario, ConsoleConfig(head=4 << 20, tail=1 << 20))


def test_stream_prompts_once_and_takes_input_while_it_waits(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="ask\nask")
        for expected in ("clean-finished", "build-finished", "waiting-input"):
            assert (await reply(run, policy=STREAM)).answer.status == expected
        waits = asyncio.create_task(reply(run, policy=STREAM))
        await asyncio.sleep(0.3)
        assert not waits.done() and "decline" not in stage.log
        await run.type(Input("one"))
        again = await waits
        assert (again.answer.status, text(again)) == ("waiting-input", "got 'one\\n'\n")
        await run.type(Input("two"))
        assert text((await stream(run))[-1]) == "got 'two\\n'\n"

    play(tmp_path, scenario)


def test_run_that_its_client_abandoned_is_interrupted(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="sleep 20")
        while "watch" not in stage.log:
            await asyncio.sleep(0.01)
        await stage.runs.abandon(run)
        assert "kill" not in stage.log
        assert run.over and run.served and run.events[-1].exit == 130

    play(tmp_path, scenario)


def test_abandoned_run_that_ignores_the_interrupt_is_killed(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="ask")
        while "watch" not in stage.log:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        await stage.runs.abandon(run)
        assert time.monotonic() - began >= GRACE_S
        await run.done.wait()
        assert stage.log[-1] == "kill"

    play(tmp_path, scenario)


def test_run_abandoned_before_its_turn_never_starts(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        first, second = (
            await stage.submit("a", exec="sleep 0.3"),
            await stage.submit("b", exec="out never"),
        )
        await stage.runs.abandon(second)
        await follow(first)
        await first.done.wait()
        assert stage.started == ["a"] and second.vanished
        with pytest.raises(NotFound):
            stage.runs.get("b")

    play(tmp_path, scenario)
