"""Calls that hold: one reply has the ends of all steps, and a lost reply loses none of them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sandboxd.config.settings import ConsoleConfig
from sandboxd.runs.cursor import CursorFile, Offset
from sandboxd.runs.polling import PollPolicy
from sandboxd.runs.reply import Reply
from sandboxd.runs.run import Run
from sandboxd.spool import SEGMENT

from ..waiting import eventually
from .stage import Stage, play, reply, text

HOLD = PollPolicy(wait_s=60, holds=True)
AT_ONCE = PollPolicy(wait_s=0, holds=True)
WHOLE = PollPolicy(wait_s=60, holds=True, whole=True)
SMALL = ConsoleConfig(head=2 * SEGMENT, tail=2 * SEGMENT, response_chars=10)


def steps(one: Reply) -> list[tuple[str | None, str]]:
    """The steps of a reply, each with the text of its items."""
    texts, rest = list[tuple[str | None, str]](), one.console
    for end in one.ends:
        items, rest = rest[: end.items], rest[end.items :]
        texts.append((end.event.step, "".join(data for kind, data in items if kind != "log")))
    return texts


WHOLE_RUN = [("clean", ""), ("build", "b\n"), ("exec", "e\n")]


def test_one_call_has_the_end_of_each_step_with_its_own_console(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out b", exec="out e\nexit 3")
        whole = await reply(run, policy=HOLD)
        assert (whole.answer.status, whole.answer.exit_code) == ("finished", 3)
        assert steps(whole) == WHOLE_RUN and len(whole.console) == 2
        assert whole.offset == Offset(4, 3)
        assert run.served

    play(tmp_path, scenario)


@pytest.mark.parametrize("first", [HOLD, PollPolicy()])
def test_call_after_the_last_reply_gets_it_again_with_its_steps(
    tmp_path: Path, first: PollPolicy
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out b", exec="out e")
        last = await reply(run, policy=first)
        while not run.served:
            last = await reply(run, policy=first)
            await asyncio.sleep(0)  # a repeated reply waits for nothing, and the run has to end
        again = await reply(run, policy=HOLD)
        assert (again.answer.status, again.console) == ("finished", last.console)
        assert again.ends == last.ends

    play(tmp_path, scenario)


def test_reply_that_was_lost_comes_again_with_all_its_steps(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out b", exec="out e")
        with pytest.raises(ConnectionError):
            async with run.call(policy=HOLD):
                raise ConnectionError
        assert not run.served
        assert steps(await reply(run, policy=HOLD)) == WHOLE_RUN

    play(tmp_path, scenario)


def test_place_of_the_client_decides_about_the_steps(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out b", exec="out e")
        await reply(run, policy=HOLD)
        rest = await reply(run, policy=HOLD, since=Offset(2, 2))
        assert steps(rest) == WHOLE_RUN[2:]
        assert steps(await reply(run, policy=HOLD, since=Offset())) == WHOLE_RUN
        nothing = await reply(run, policy=HOLD, since=Offset(4, 3))
        assert steps(nothing) == [("exec", "")] and nothing.answer.again

    play(tmp_path, scenario)


def test_call_whose_time_is_up_has_the_steps_so_far_and_the_next_one_the_rest(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out b", exec="out x\nawait go\nout e")
        first = await reply(run, policy=PollPolicy(live=True))
        while "x" not in text(first) or len(first.ends) < 2:  # news of a step may come later
            assert not run.over
            await asyncio.sleep(0)  # a call that is served at once lets no news in
            first = await reply(run, policy=AT_ONCE, since=Offset())
        assert first.answer.status == "continued"
        assert steps(first) == WHOLE_RUN[:2] and text(first) == "b\nx\n"
        (tmp_path / "go").touch()
        last = await reply(run, policy=HOLD)
        assert steps(last) == [("exec", "e\n")] and last.answer.status == "finished"

    play(tmp_path, scenario)


def test_question_of_the_program_ends_the_wait_unless_its_input_is_streamed(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out name?\nask")
        question = await reply(run, policy=HOLD)
        assert question.answer.status == "waiting-input" and text(question) == "name?\n"
        assert [end.event.step for end in question.ends] == ["clean", "build"]
        streams = PollPolicy(wait_s=0, holds=True, streams=True, patient=True)
        assert (await reply(run, policy=streams)).answer.status == "continued"

    play(tmp_path, scenario)


def test_output_beyond_the_bound_is_cut_and_the_bound_is_of_all_steps_together(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out 12345678", exec="out 12345678")
        whole = await reply(run, policy=HOLD)
        assert steps(whole) == [("clean", ""), ("build", "12345678\n"), ("exec", "1")]
        assert "8 characters of stdout were cut" in whole.console[-1][1][3]
        assert whole.offset == Offset(10, 3)

    play(tmp_path, scenario, SMALL)


def test_client_that_wants_all_output_gets_each_step_when_its_output_is_complete(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out 12345678", exec="out 12345678")
        first = await reply(run, policy=WHOLE)
        assert (first.answer.status, first.more) == ("continued", True)
        assert steps(first) == [("clean", ""), ("build", "12345678\n")]
        assert first.offset == Offset(10, 2) and text(first) == "12345678\n1"
        second = await reply(run, policy=WHOLE)
        assert steps(second) == [("exec", "2345678\n")] and not second.more
        assert second.answer.status == "finished"
        again = [await reply(run, policy=WHOLE, since=Offset())]
        while again[-1].more:
            again.append(await reply(run, policy=WHOLE))
        assert [steps(one) for one in again] == [steps(first), steps(second)]

    play(tmp_path, scenario, SMALL)


def test_cursor_of_the_last_reply_is_read_back_with_its_steps(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run: Run = await stage.submit("a", build="out b", exec="out e")
        await reply(run)
        await reply(run, policy=HOLD)
        file = CursorFile(os.open(tmp_path / "1" / "cursor", os.O_RDWR))
        assert (file.read().answered, file.read().final_steps) == (3, 1)
        file.close()

    play(tmp_path, scenario)


def test_fault_of_the_server_comes_behind_the_steps_before_it(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out b", exec="out e\nfault")
        whole = await reply(run, policy=HOLD)
        assert (whole.answer.status, whole.answer.exit_code) == ("finished", -1)
        assert steps(whole)[:2] == WHOLE_RUN[:2] and text(whole) == "b\ne\n"
        assert whole.console[-1][0] == "log" and run.ending

    play(tmp_path, scenario)


def test_call_whose_time_is_up_has_the_ends_of_skipped_steps(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="await go")
        first = await reply(run, policy=PollPolicy(wait_s=0.1, holds=True))
        while not first.ends:
            first = await reply(run, policy=PollPolicy(wait_s=0.1, holds=True))
        assert first.answer.status == "continued"
        assert [end.event.step for end in first.ends] == ["clean", "build"]
        (stage.base / "go").touch()
        assert [end.event.step for end in (await reply(run, policy=HOLD)).ends] == ["exec"]

    play(tmp_path, scenario)


def test_call_that_does_not_hold_gets_the_end_of_a_skipped_step_after_one_that_did(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="await go")
        holding = asyncio.create_task(reply(run, policy=HOLD))
        await eventually(lambda: stage.started)
        holding.cancel()
        await asyncio.wait([holding])
        statuses = [(await reply(run, policy=PollPolicy(wait_s=60))).answer.status for _ in "ab"]
        assert statuses == ["clean-finished", "build-finished"]
        (stage.base / "go").touch()
        assert (await reply(run, policy=HOLD)).answer.status == "finished"

    play(tmp_path, scenario)


def test_skipped_steps_are_no_news_for_a_call_that_waits_for_the_end(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.submit("a", exec="await first")
        run = await stage.submit("b", exec="await second")
        holding = asyncio.create_task(reply(run, policy=HOLD))
        # The first run is at rest: its skipped steps are known, and nothing else comes of it.
        await eventually(lambda: stage.shims and (stage.shims[0].watch or {}).get("journal") == 2)
        stage.log.clear()
        (stage.base / "first").touch()
        await eventually(lambda: len(stage.shims) == 2)
        (stage.base / "second").touch()
        assert (await holding).answer.status == "finished"
        assert "watch" not in stage.log

    play(tmp_path, scenario)
