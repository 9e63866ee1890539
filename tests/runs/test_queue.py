"""The run queue over a shim that plays scripts: order, calls, ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxd.config.settings import ConsoleConfig
from sandboxd.errors import Invalid, QuotaExceeded, StageError, Unavailable
from sandboxd.runs.client_calls import Input
from sandboxd.runs.follower import Follower
from sandboxd.runs.polling import LIVE
from sandboxd.runs.queue import QUEUE_MAX
from sandboxd.runs.reply import Reply

from .stage import Stage, follow, play, reply, statuses, text, vanishing


def test_run_answers_each_step_in_a_call_of_its_own(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        replies = await follow(
            await stage.submit("a", build="out making", exec="out running\nexit 3")
        )
        assert statuses(replies) == [("clean-finished", 0), ("build-finished", 0), ("finished", 3)]
        assert [text(r) for r in replies] == ["", "making\n", "running\n"]

    play(tmp_path, scenario)


def test_after_a_failed_build_exec_is_not_run(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        replies = await follow(await stage.submit("a", build="exit 2", exec="out never"))
        assert statuses(replies)[1:] == [("build-finished", 2), ("finished", 127)]
        assert text(*replies) == ""

    play(tmp_path, scenario)


def test_slow_run_answers_continued_after_two_seconds_with_its_output(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out early\nawait go\nout late")
        await reply(run)
        await reply(run)
        began = time.monotonic()
        slow = await reply(run)
        assert time.monotonic() - began > 1.9
        assert slow.answer.status == "continued" and text(slow) == "early\n"
        (tmp_path / "go").touch()
        assert text(*await follow(run)) == "late\n"

    play(tmp_path, scenario)


def test_live_call_returns_with_the_first_output(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="sleep 0.2\nout one\nout two\nsleep 1.5")
        await reply(run)
        await reply(run)
        live = await reply(run, policy=LIVE)
        assert live.answer.status == "continued" and text(live) == "one\ntwo\n"
        last = await reply(run, policy=LIVE)
        assert last.answer.status == "finished" and text(last) == ""

    play(tmp_path, scenario)


def test_finished_run_gives_its_final_result_again_and_again(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out hello\nexit 7")
        last = (await follow(run))[-1]
        for _ in range(3):
            again = await reply(run)
            assert again.answer.exit_code == 7 and text(again) == text(last) == "hello\n"

    play(tmp_path, scenario)


def test_runs_wait_for_their_turn_in_order(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        first = await stage.submit("a", exec="sleep 0.6\nout first")
        second = await stage.submit("b", exec="out second")
        third = await stage.submit("c", exec="out third")
        assert [stage.runs.position(run) for run in (first, second, third)] == [0, 1, 2]
        await asyncio.gather(*(follow(run) for run in (third, second, first)))
        assert stage.started == ["a", "b", "c"]

    play(tmp_path, scenario)


def test_queued_run_says_continued_without_console(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.submit("a", exec="sleep 3")
        queued = await reply(await stage.submit("b", exec="out x"))
        assert queued == Reply(queued.answer, []) and queued.answer.status == "continued"

    play(tmp_path, scenario)


def test_program_that_reads_is_answered_and_goes_on(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out name?\nask\nask")
        await reply(run)
        await reply(run)
        prompt = await reply(run)
        assert prompt.answer.status == "waiting-input" and text(prompt) == "name?\n"
        again = await reply(run, Input("Ada"))
        assert again.answer.status == "waiting-input" and text(again) == "got 'Ada\\n'\n"
        last = await reply(run, Input("", eof=True))
        assert last.answer.status == "finished" and text(last) == "got ''\n"

    play(tmp_path, scenario)


def test_call_without_input_after_a_prompt_declines_the_prompt(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="ask")
        while (await reply(run)).answer.status != "waiting-input":
            pass
        assert "decline" not in stage.log
        assert (await reply(run)).answer.status == "continued"
        assert stage.log.count("decline") == 1
        assert (await reply(run)).answer.status == "waiting-input"

    play(tmp_path, scenario)


def test_long_input_arrives_in_one_piece(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="ask")
        while (await reply(run)).answer.status != "waiting-input":
            pass
        last = await reply(run, Input("\U0001f600" * 50_000))
        assert text(last).count("\U0001f600") == 50_000

    play(tmp_path, scenario)


def test_input_that_no_program_can_read_is_refused(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="ask")
        while (await reply(run)).answer.status != "waiting-input":
            pass
        with pytest.raises(Invalid):
            await reply(run, Input("\ud800"))
        assert (await reply(run, Input("\udcff"))).answer.status == "finished"

    play(tmp_path, scenario)


def test_interrupt_reaches_the_running_step(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="sleep 20")
        await reply(run)
        await run.interrupt()
        assert statuses(await follow(run))[-1] == ("finished", 130)
        await run.interrupt()

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("script", "status", "code", "word"),
    [
        ("out x\ntimeout", "exec-timeout", None, ""),
        ("out x\ndie", "finished", -1, "without a verdict"),
        ("out x\nfault", "finished", -1, "stage exec: Permission denied (errno 13)"),
    ],
)
def test_run_that_ends_without_an_exit_has_its_status_and_explanation(
    tmp_path: Path, script: str, status: str, code: int | None, word: str
) -> None:
    async def scenario(stage: Stage) -> None:
        replies = await follow(await stage.submit("a", exec=script))
        assert statuses(replies)[-1] == (status, code)
        assert text(*replies) == "x\n"
        logs = [data[3] for r in replies for kind, data in r.console if kind == "log"]
        assert word in "".join(logs) and bool(logs) == bool(word)
        assert statuses([await reply(stage.runs.get("a"))]) == [(status, code)]

    play(tmp_path, scenario)


def test_run_that_cannot_start_says_why_in_each_call(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        stage.fails = StageError("mounts", "no", 13)
        run = await stage.submit("a", exec="out x")
        for _ in range(2):
            with pytest.raises(StageError):
                await reply(run)
        stage.fails = None
        assert statuses(await follow(await stage.submit("b", exec="out x")))[-1] == ("finished", 0)

    play(tmp_path, scenario)


def test_bug_of_ours_ends_one_run_and_not_the_queue(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        bad, good = (
            await stage.submit("bad", exec="out x"),
            await stage.submit("good", exec="out x"),
        )
        stage.mistaken = "bad"
        with pytest.raises(Unavailable, match="cannot be followed"):
            await reply(bad)
        assert statuses(await follow(good))[-1] == ("finished", 0)

    play(tmp_path, scenario)


def test_name_of_a_run_is_free_once_its_end_was_served_though_it_is_not_over(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        first = await stage.submit("a", exec="out one\nlinger go")
        await follow(first)
        again = await stage.submit("a", exec="out one\nlinger go")
        assert again is not first, "its client knows of the end, and means a new run"
        await stage.runs.abandon(again)
        second = await stage.submit("a", exec="out two")
        assert not first.over and stage.runs.position(second) == 1
        with pytest.raises(Invalid, match="not over"):
            await stage.submit("a", exec="out three")
        (tmp_path / "go").touch()
        assert text(*await follow(second)) == "two\n"
        assert first.over and stage.started == ["a", "a"]

    play(tmp_path, scenario)


def test_repeated_request_for_a_run_means_the_same_run(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="sleep 0.3")
        assert await stage.submit("a", exec="sleep 0.3") is run
        with pytest.raises(Invalid):
            await stage.submit("a", exec="out other")
        await follow(run)
        await run.done.wait()
        assert await stage.submit("a", exec="sleep 0.3") is not run

    play(tmp_path, scenario)


def test_two_calls_for_a_run_at_once_share_its_answers(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out hello")
        replies = await asyncio.gather(*(reply(run) for _ in range(3)))
        assert sorted(r.answer.status for r in replies) == [
            "build-finished", "clean-finished", "finished",
        ]  # fmt: skip
        assert text(*replies) == "hello\n"

    play(tmp_path, scenario)


def test_queue_refuses_more_runs_than_its_bound(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        for number in range(QUEUE_MAX):
            await stage.submit(str(number), exec="sleep 5")
        with pytest.raises(QuotaExceeded):
            await stage.submit("more", exec="out x")

    play(tmp_path, scenario)


def test_closed_queue_ends_waiting_calls_at_once(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        active, queued = (
            await stage.submit("a", exec="sleep 9"),
            await stage.submit("b", exec="out x"),
        )
        await reply(active)
        await reply(active)
        calls = [asyncio.create_task(vanishing(run)) for run in (active, queued)]
        await asyncio.sleep(0.1)
        await stage.runs.close()
        assert await asyncio.gather(*calls) == [None, None]

    play(tmp_path, scenario)


def test_flood_of_output_is_cut_to_the_size_of_a_response(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        replies = await follow(await stage.submit("a", exec="flood 400000"))
        assert len(text(*replies)) == 1000
        assert "were cut" in replies[-1].console[-1][1][3]

    play(tmp_path, scenario, ConsoleConfig(head=1 << 18, tail=1 << 18, response_chars=1000))


def test_run_whose_client_knows_the_end_is_accounted_for_when_settled_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(name: str) -> Callable[[Follower], Awaitable[Any]]:
        """That step of following a shim; when it finds the shim gone it says so late."""
        step = getattr(Follower, name)

        async def lately(follower: Follower) -> Any:
            result, gone = None, name == "_receive"
            try:
                result = await step(follower)
            except OSError:
                gone = True
                raise
            finally:
                if gone and result is None:
                    await asyncio.sleep(0.3)
            return result

        return lately

    async def scenario(stage: Stage) -> None:
        await stage.runs.settled()  # nothing is going on
        replies = await follow(await stage.submit("a", exec="out x"))
        assert statuses(replies)[-1] == ("finished", 0)
        await stage.runs.settled()
        assert stage.accounted == ["a"]

    for name in ("_receive", "_watch"):
        monkeypatch.setattr(Follower, name, late(name))
    play(tmp_path, scenario)


def test_notices_are_all_for_the_client_of_the_next_run_and_not_for_the_sessions_own_run(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        stage.runs.add_notice("the bootstrap script failed")
        await stage.submit("own", "out x", own=True)
        stage.runs.add_notice("mem was lowered")
        replies = await follow(await stage.submit("a", "out y"))
        items = [item for reply in replies for item in reply.console]
        logs = [data[3] for kind, data in items if kind == "log"]
        assert logs == ["the bootstrap script failed; mem was lowered"]

    play(tmp_path, scenario)
