"""The spool reader, with spools that a flood has overwritten or that an owner has forged."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.config.settings import ConsoleConfig
from sandboxd.runs.journal import NO_POSITION
from sandboxd.runs.polling import LIVE, POLL, PollPolicy
from sandboxd.runs.spool_reader import SMALL, SpoolReader
from sandboxd.spool import SEGMENT, START, STDERR, STDOUT, ConsoleWriter, Splitter, SpoolPosition

from ..effort import examples
from ..waiting import PATIENCE_S

KEEP = ConsoleConfig(head=2 * SEGMENT, tail=2 * SEGMENT, response_chars=100_000)


@pytest.fixture
def console(tmp_path: Path) -> int:
    return os.open(tmp_path / "console", os.O_RDWR | os.O_CREAT)


@pytest.fixture
def spool(console: int, tmp_path: Path) -> SpoolReader:
    return SpoolReader(console, os.open(tmp_path / "journal", os.O_RDWR | os.O_CREAT), KEEP)


def test_spool_is_read_to_its_end_and_on_from_there(console: int, spool: SpoolReader) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    writer.append(STDOUT, b"one ")
    part = spool.console(SpoolPosition(START), NO_POSITION)
    writer.append(STDOUT, b"two")
    next_part = spool.console(part.behind, NO_POSITION)
    assert (part.items, next_part.items) == ([["stdout", "one "]], [["stdout", "two"]])


def test_output_behind_the_end_position_waits_for_the_next_call(
    console: int, spool: SpoolReader
) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    writer.append(STDOUT, b"one ")
    end = writer.position
    writer.append(STDOUT, b"two")
    assert spool.console(SpoolPosition(START), end).items == [["stdout", "one "]]


def test_spool_of_a_flood_keeps_head_and_tail_and_counts_the_rest(
    console: int, spool: SpoolReader
) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    writer.append(STDOUT, b"begin\n")
    for _ in range(100):
        writer.append(STDOUT, b"x" * 8000)
    writer.append(STDOUT, b"\nfinis")
    part = spool.console(SpoolPosition(START), NO_POSITION)
    items, cursor = part.items, part.behind
    assert items[0][1].startswith("begin") and "dropped here" in items[1][1][3]
    assert cursor == SpoolPosition(writer.position, writer.written)
    assert spool.console(cursor, NO_POSITION).items == []


def test_reader_that_the_ring_has_overtaken_goes_on_with_what_is_left(
    console: int, spool: SpoolReader
) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    for _ in range(25):
        writer.append(STDOUT, b"x" * 8000)
    cursor = spool.console(SpoolPosition(START), NO_POSITION).behind
    for _ in range(90):
        writer.append(STDOUT, b"y" * 8000)
    writer.append(STDOUT, b"finis")
    items = spool.console(cursor, NO_POSITION).items
    assert "dropped here" in items[0][1][3]
    assert sum(len(text) for kind, text in items if kind == "stdout") > 8000


def test_forged_spool_comes_to_an_end(console: int, spool: SpoolReader) -> None:
    os.pwrite(console, os.urandom(4 * SEGMENT), 0)
    part = spool.console(SpoolPosition(START), NO_POSITION)
    assert isinstance(part.items, list) and part.behind.position >= 0


def test_closed_spool_is_empty_and_its_descriptors_are_not_used_again(spool: SpoolReader) -> None:
    spool.close()
    spool.close()
    assert spool.console(SpoolPosition(START), NO_POSITION).items == [] and spool.events() == []


def parts(spool: SpoolReader, policy: PollPolicy, start: SpoolPosition) -> list[list[object]]:
    """All items from `start`, in replies of this policy, each behind the one before."""
    items, more = list[list[object]](), True
    while more:
        part = spool.console(start, NO_POSITION, policy)
        assert part.behind.seen > start.seen or not part.more, "each reply brings something"
        assert part.delivered == part.behind
        items += part.items
        start, more = part.behind, part.more
    return items


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=12)), max_size=8),
    st.integers(1, 20),
    st.booleans(),
)
@hypothesis.settings(max_examples=examples(150))
def test_replies_together_have_all_output_behind_each_offset_whatever_their_room(
    written: list[tuple[int, bytes]], room: int, frames: bool
) -> None:
    whole = list[tuple[int, int]]()
    splitters = {STDOUT: Splitter(), STDERR: Splitter()}
    with tempfile.TemporaryDirectory() as base:
        console, journal = (os.open(f"{base}/{n}", os.O_RDWR | os.O_CREAT) for n in "cj")
        writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
        pieces = [(stream, splitters[stream].feed(data)) for stream, data in written]
        pieces += [(stream, splitter.end()) for stream, splitter in splitters.items()]
        for stream, data in pieces:
            whole += [(stream, byte) for byte in data]
            writer.append(stream, data)
        spool = SpoolReader(console, journal, replace(KEEP, response_chars=room))
        policy = replace(LIVE, base64=True, frames=frames)
        for offset in range(len(whole) + 1):
            for stream, kind in ((STDOUT, "stdout"), (STDERR, "stderr")):
                rest = bytes(byte for s, byte in whole[offset:] if s == stream)
                items = parts(spool, policy, spool.at(offset))
                assert b"".join(base64.b64decode(str(d)) for k, d in items if k == kind) == rest
                texts = parts(spool, replace(LIVE, frames=frames), spool.at(offset))
                text = "".join(str(d) for k, d in texts if k == kind)
                assert text == rest.decode("utf-8", "replace")
        spool.close()


def test_reply_that_is_cut_says_where_and_how_much(console: int, spool: SpoolReader) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    writer.append(STDOUT, "é".encode() * 60_000)
    writer.append(STDERR, b"problem\n")
    writer.append(STDOUT, b"x" * 50_000)
    part = spool.console(SpoolPosition(START), NO_POSITION, POLL)
    assert [kind for kind, _ in part.items] == ["stdout", "stderr", "stdout", "log"]
    assert part.items[3][1][3].startswith("10000 characters of stdout were cut")
    assert part.delivered.seen == 120_000 + 8 + 40_000
    assert part.behind.seen == writer.written
    rest = spool.console(spool.at(part.delivered.seen), NO_POSITION, LIVE)
    assert rest.items == [["stdout", "x" * 10_000]] and not rest.more


def test_offset_within_a_character_shows_the_rest_of_it_as_invalid(
    console: int, spool: SpoolReader
) -> None:
    ConsoleWriter(console, KEEP.head, KEEP.tail).append(STDOUT, "a€b".encode())
    texts = [spool.console(spool.at(offset), NO_POSITION).items for offset in range(5)]
    assert [items[0][1] for items in texts] == ["a€b", "€b", "\ufffd\ufffdb", "\ufffdb", "b"]


def test_silence_is_known_by_the_position_of_the_last_event(
    console: int, spool: SpoolReader
) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    writer.begin()
    assert spool.silent_since(0)
    writer.append(STDOUT, b"x")
    assert not spool.silent_since(0) and spool.silent_since(writer.position)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reads that a thread has done."""
    done: list[str] = []

    async def to_thread(read: Callable[..., object], *args: object) -> object:
        done.append(getattr(read, "__name__", ""))
        return read(*args)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    return done


def test_spool_in_the_page_cache_is_read_in_the_event_loop(
    console: int, spool: SpoolReader, threads: list[str]
) -> None:
    ConsoleWriter(console, KEEP.head, KEEP.tail).append(STDOUT, b"one")
    part = asyncio.run(spool.promptly(spool.console, SpoolPosition(START), NO_POSITION))
    assert (part.items, asyncio.run(spool.promptly(spool.events))) == ([["stdout", "one"]], [])
    assert threads == []


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP])
def test_spool_that_a_disk_has_is_read_in_a_thread(
    console: int,
    spool: SpoolReader,
    threads: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    ConsoleWriter(console, KEEP.head, KEEP.tail).append(STDOUT, b"one")
    monkeypatch.setattr(os, "preadv", refuse)
    part = asyncio.run(spool.promptly(spool.console, SpoolPosition(START), NO_POSITION))
    assert (part.items, threads) == ([["stdout", "one"]], ["console"])


def test_large_spool_and_one_that_a_thread_reads_do_not_stop_the_event_loop(
    console: int, spool: SpoolReader, threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    for _ in range(SMALL // 8000):
        writer.append(STDOUT, b"x" * 8000)
    part = asyncio.run(spool.promptly(spool.console, SpoolPosition(START), NO_POSITION, LIVE))
    assert part.more and threads == ["console"]
    held, read = threading.Event(), threading.Event()

    def hang() -> None:
        with spool._lock:
            held.set()
            read.wait(PATIENCE_S)

    async def release_and_read(method: Callable[[], object]) -> object:
        threads.append("events")
        read.set()
        return method()

    reader = threading.Thread(target=hang)
    reader.start()
    held.wait(PATIENCE_S)
    monkeypatch.setattr(asyncio, "to_thread", release_and_read)
    assert asyncio.run(spool.promptly(spool.events)) == []
    reader.join()
    assert threads == ["console", "events"]


def test_closed_spool_is_empty_for_the_event_loop_too(spool: SpoolReader) -> None:
    spool.close()
    assert asyncio.run(spool.promptly(spool.events)) == []
    assert asyncio.run(spool.promptly(spool.size)) == 0
