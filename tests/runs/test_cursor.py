"""The client cursor: it survives the daemon, and a reply that was not received is served again."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxd.runs.cursor import ClientCursor, CursorFile, Offset
from sandboxd.runs.follower import StartedRun
from sandboxd.runs.polling import LIVE, PollPolicy
from sandboxd.runs.reply import Reply
from sandboxd.runs.run import Run
from sandboxd.spool import SpoolPosition

from ..api.fake_shim import KEEP
from ..waiting import PATIENCE_S, eventually
from .stage import Stage, follow, play, reply, statuses, text


def test_cursor_is_read_back_from_its_file_and_an_empty_file_is_the_beginning(
    tmp_path: Path,
) -> None:
    file = CursorFile(os.open(tmp_path / "cursor", os.O_RDWR | os.O_CREAT))
    nothing = file.read()
    assert nothing == ClientCursor(started_at=nothing.started_at) and nothing.started_at > 0
    noted = ClientCursor(SpoolPosition(70000, 9), SpoolPosition(24, 0), 2, True, 1.5)
    asyncio.run(file.write(noted))
    assert file.read() == noted
    within = replace(noted, console=SpoolPosition(70000, 9, 5), final_from=SpoolPosition(24, 3, 3))
    asyncio.run(file.write(replace(within, final_steps=2)))
    assert file.read() == replace(within, final_steps=2)
    os.truncate(tmp_path / "cursor", 56)  # as versions without `final_steps` have written it
    assert file.read() == within
    os.truncate(tmp_path / "cursor", 48)  # as versions without `within` have written it
    assert file.read() == replace(
        within, console=SpoolPosition(70000, 9), final_from=SpoolPosition(24, 3)
    )
    file.close()
    asyncio.run(file.write(noted))  # nobody minds


@pytest.fixture
def in_memory() -> Iterator[int]:
    """A file in a file system that is memory."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        yield os.dup(file.fileno())


def test_cursor_in_memory_is_written_in_the_event_loop(
    in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread gets its turn late on a busy host; a kill before that would serve a reply twice."""
    monkeypatch.setattr(CursorFile, "_threads", None)
    file, cursor = CursorFile(in_memory), ClientCursor(answered=2, started_at=1.5)
    asyncio.run(file.write(cursor))
    assert file.read() == cursor
    file.close()
    with pytest.raises(OSError):
        os.fstat(in_memory)


def test_cursor_on_a_disk_that_hangs_does_not_stop_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thawed, write = threading.Event(), os.pwrite

    def hang(*args: Any) -> int:
        thawed.wait(PATIENCE_S)
        return write(*args)

    async def scenario() -> None:
        writing = asyncio.create_task(file.write(cursor))
        await asyncio.sleep(0)
        assert not writing.done()
        thawed.set()
        await writing

    monkeypatch.setattr(os, "pwrite", hang)
    monkeypatch.setattr("sandboxd.runs.cursor.is_in_memory", lambda _: False)
    file = CursorFile(os.open(tmp_path / "cursor", os.O_RDWR | os.O_CREAT))
    cursor = ClientCursor(answered=1, started_at=1.5)
    asyncio.run(scenario())
    assert file.read() == cursor
    file.close()


def test_cursor_that_the_file_has_already_is_not_written_again(
    in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, write = list[bytes](), os.pwrite

    def count(fd: int, data: bytes, offset: int) -> int:
        writes.append(data)
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", count)
    file, cursor = CursorFile(in_memory), ClientCursor(started_at=1.5)
    for each in (cursor, cursor, replace(cursor, answered=1), cursor):
        asyncio.run(file.write(each))
    assert len(writes) == 3 and file.read() == cursor
    file.close()


def test_write_that_the_disk_holds_up_is_over_before_another_run_gets_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(stage: Stage) -> None:
        disk, write, hung = threading.Event(), os.pwrite, threading.Event()

        def hang(fd: int, data: bytes, offset: int) -> int:
            if os.readlink(f"/proc/self/fd/{fd}").endswith("cursor"):
                hung.set()
                assert disk.wait(PATIENCE_S)
            return write(fd, data, offset)

        run = await stage.submit("a", exec="out x")
        monkeypatch.setattr("sandboxd.runs.cursor.PATIENCE_S", 0.0)
        monkeypatch.setattr(os, "pwrite", hang)
        call = asyncio.create_task(reply(run))
        await run.done.wait()
        await eventually(hung.is_set)
        expiring = asyncio.create_task(stage.runs.expire(run.ended_at + 60))
        await eventually(lambda: run.id not in stage.runs._runs)
        for _ in range(20):  # of the loop: each thread that closes files has its turn meanwhile
            await asyncio.to_thread(lambda: None)
        assert stage.rows, "its directory could be another run's now"
        disk.set()
        await asyncio.gather(call, expiring)
        assert not stage.rows

    play(tmp_path, scenario, replace(KEEP, keep_s=60))


def test_reply_that_its_client_did_not_receive_is_served_again(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out making", exec="out running\nexit 3")
        await reply(run)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                async with run.call() as lost:
                    assert lost is not None and lost.answer.status == "build-finished"
                    raise ConnectionError
        replies = await follow(run)
        assert statuses(replies) == [("build-finished", 0), ("finished", 3)]
        assert text(*replies) == "making\nrunning\n"

    play(tmp_path, scenario)


@pytest.mark.parametrize("restored", [False, True])
def test_reply_in_hand_over_while_the_run_begins_moves_no_cursor(
    tmp_path: Path, restored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is another's: of the start, or what an earlier daemon has noted."""

    async def scenario(stage: Stage) -> None:
        turn, start = asyncio.Event(), stage.start_run

        async def begin(run: Run) -> StartedRun:
            await turn.wait()
            started = await start(run)
            run.started_at = 5.0
            if restored:
                earlier = CursorFile(os.dup(started.cursor))
                await earlier.write(noted)
                earlier.close()
            return replace(started, restored=restored)

        monkeypatch.setattr(stage, "start_run", begin)
        noted = ClientCursor(SpoolPosition(24, 0), SpoolPosition(24, 0), 1, False, 4.0)
        run = await stage.submit("a", exec="sleep 1")
        async with run.call(policy=PollPolicy(wait_s=0)) as early:
            assert early is not None and early.answer.status == "continued"
            turn.set()
            while run._follower is None:
                await asyncio.sleep(0.01)
            await early.note()
        file = run._calls._cursor_file
        assert file is not None
        expected = noted if restored else ClientCursor(started_at=5.0)
        await eventually(lambda: file.read() == expected)  # the call does not wait for the first
        assert run._calls._cursor == expected
        await run.kill()

    play(tmp_path, scenario)


def test_client_that_sends_its_offset_is_served_what_comes_after_it(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", build="out making", exec="out running\nexit 3")
        replies = await follow(run)
        places = [Offset(), *(each.offset for each in replies)]
        assert places[-1] == Offset(len("making\nrunning\n"), 3)
        for number, place in enumerate(places[:-1]):
            assert text(*(await from_(run, place))) == text(*replies[number:])
            assert statuses(await from_(run, place)) == statuses(replies[number:])
        again = await reply(run, since=places[-1])
        assert statuses([again]) == [("finished", 3)] and text(again) == ""
        assert statuses([await reply(run, since=Offset(10**9, 99))]) == [("finished", 3)]

    async def from_(run: Run, place: Offset) -> list[Reply]:
        replies = [await reply(run, since=place)]
        while replies[-1].answer.status != "finished":
            replies.append(await reply(run))
        return replies

    play(tmp_path, scenario)


def test_repeated_request_for_a_run_whose_end_was_not_served_means_that_run(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="out x")
        await run.done.wait()
        assert await stage.submit("a", exec="out x") is run
        await follow(run)
        assert await stage.submit("a", exec="out x") is not run

    play(tmp_path, scenario)


def test_suspended_queue_replies_to_calls_and_refuses_new_runs(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="sleep 9")
        await reply(run)
        await reply(run)
        stage.runs.suspend()
        assert statuses([await reply(run)]) == [("continued", None)]
        with pytest.raises(Exception, match="daemon is ending"):
            await stage.submit("b", exec="out x")
        await stage.runs.close()
        assert not run.vanished

    play(tmp_path, scenario)


def test_client_without_an_offset_gets_a_cut_reply_and_can_fetch_the_rest_by_its_offset(
    tmp_path: Path,
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="flood 200000\nout end")
        replies = await follow(run)
        size = 200000 // 8192 * 8192 + 4
        kinds = [kind for kind, _ in replies[-1].console]
        assert kinds == ["stdout", "log"] and len(text(replies[-1])) == 50_000
        place = replies[-1].offset
        assert place == Offset(50_000, 3)
        again = await reply(run)
        assert (text(again), again.offset) == (text(replies[-1]), place)
        rest = await rest_from(run, place)
        assert len("".join(text(r) for r in rest)) == size - 50_000
        assert text(*rest).endswith("x" + "end\n"), "the last line, too"
        assert [r.more for r in rest] == [True] * (len(rest) - 1) + [False]
        assert statuses(rest)[-1] == ("finished", 0)
        assert rest[-1].offset == Offset(size, 3)

    async def rest_from(run: Run, place: Offset) -> list[Reply]:
        replies = [await reply(run, policy=LIVE, since=place)]
        while replies[-1].more:
            replies.append(await reply(run, policy=LIVE))
        return replies

    play(tmp_path, scenario, replace(KEEP, response_chars=50_000))


@pytest.mark.parametrize("sends_offset", [False, True])
def test_live_client_gets_all_output_in_replies_that_say_that_there_is_more(
    tmp_path: Path, sends_offset: bool
) -> None:
    async def scenario(stage: Stage) -> None:
        run = await stage.submit("a", exec="flood 200000\nout end\nexit 3")
        replies, seen = list[Reply](), 0
        while not replies or replies[-1].answer.status != "finished":
            since = replies[-1].offset if replies and sends_offset else None
            replies.append(await reply(run, policy=LIVE, since=since))
            seen += len(text(replies[-1]))
            assert replies[-1].offset.console == seen
        assert seen == 200000 // 8192 * 8192 + 4
        assert not any(kind == "log" for r in replies for kind, _ in r.console)
        assert max(len(text(r)) for r in replies) <= 50_000
        assert any(r.more for r in replies)
        again = await reply(run, policy=LIVE)
        assert text(again) in ("", text(replies[-1])) and not again.more

    play(tmp_path, scenario, replace(KEEP, response_chars=50_000))
