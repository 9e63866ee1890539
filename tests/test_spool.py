"""The spool keeps what it promises: order, whole characters, both ends of a flood."""

from __future__ import annotations

import itertools
import os
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.spool import (
    SEGMENT,
    START,
    STDERR,
    STDOUT,
    ConsoleReader,
    ConsoleWriter,
    Record,
    Splitter,
    SpoolPosition,
    append_event,
    read_events,
)  # fmt: skip

from .effort import examples

END = 1 << 60


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.text(max_size=5000)), max_size=30)
)
@hypothesis.settings(max_examples=examples(60))
def test_what_is_written_is_read_in_order(pieces: list[tuple[int, str]]) -> None:
    with tempfile.TemporaryFile() as file:
        writer = ConsoleWriter(file.fileno(), 1 << 20, 1 << 20)
        for stream, text in pieces:
            writer.append(stream, text.encode())
        read = list(ConsoleReader(file.fileno(), 1 << 20, 1 << 20).read(SpoolPosition(), END))
    for stream in (STDOUT, STDERR):
        wanted = "".join(text for kind, text in pieces if kind == stream)
        assert "".join(r.text for r, _ in read if r.stream == stream) == wanted
    assert all(record.lost == 0 for record, _ in read)


def test_what_a_full_disk_takes_half_of_is_not_written(fd: int) -> None:
    writer = ConsoleWriter(fd, 1 << 20, 1 << 20)
    writer.append(STDOUT, b"x" * 8000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # then writes are cut, as there
    try:
        with pytest.raises(OSError):
            writer.append(STDOUT, b"y" * 8000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.append(STDOUT, b"z" * 8000)
    read = ConsoleReader(fd, 1 << 20, 1 << 20).read(SpoolPosition(), END)
    assert "".join(record.text for record, _ in read) == "x" * 8000 + "z" * 8000


@hypothesis.given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_cut_anywhere_a_stream_reads_as_if_it_were_whole(data: bytes, cuts: list[int]) -> None:
    splitter, pieces = Splitter(), list[bytes]()
    places = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        pieces.append(splitter.feed(data[start:end]))
    pieces.append(splitter.end())
    assert b"".join(pieces) == data
    text = "".join(piece.decode("utf-8", "replace") for piece in pieces)
    assert text == data.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 200, b"\x80" * 20_000, b"\xf0" * 20_000, "€".encode() * 9000,
        b"x" + "\U0001f600".encode() * 9000, b"\xe2\x82" * 9000,
    ],
    ids=["all", "continuations", "beginnings", "three", "four", "halves"],
)  # fmt: skip
def test_bytes_that_are_no_utf8_are_stored_as_they_are_and_read_as_the_whole_text(
    fd: int, data: bytes
) -> None:
    writer = ConsoleWriter(fd, 1 << 20, 1 << 20)
    writer.append(STDOUT, data)
    records = [r for r, _ in ConsoleReader(fd, 1 << 20, 1 << 20).read(SpoolPosition(), END)]
    assert b"".join(record.data for record in records) == data
    assert "".join(record.text for record in records) == data.decode("utf-8", "replace")


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=9)), max_size=12)
)
@hypothesis.settings(max_examples=examples(50))
def test_output_from_each_offset_is_exactly_the_bytes_behind_it(
    pieces: list[tuple[int, bytes]],
) -> None:
    with tempfile.TemporaryFile() as file:
        writer = ConsoleWriter(file.fileno(), 1 << 20, 1 << 20)
        reader = ConsoleReader(file.fileno(), 1 << 20, 1 << 20)
        writer.begin()
        for stream, data in pieces:
            writer.append(stream, data)
        whole = [(stream, byte) for stream, data in pieces for byte in data]
        for offset in range(len(whole) + 2):
            position = reader.at(offset)
            read = list(reader.read(position, END))
            got = [(record.stream, byte) for record, _ in read for byte in record.data]
            assert got == whole[offset:]
            assert position.seen == min(offset, len(whole))
            assert all(after.within == 0 for _, after in read)
            assert sum(record.lost for record, _ in read) == 0


@pytest.mark.parametrize("size", [1, 700, 8191, 8192])
def test_output_around_a_gap_is_exact_at_each_offset(fd: int, size: int) -> None:
    sizes = 2 * SEGMENT, 2 * SEGMENT
    writer, reader = ConsoleWriter(fd, *sizes), ConsoleReader(fd, *sizes)
    total = 7 * SEGMENT
    whole = b"".join(number.to_bytes(4, "big") for number in range(total // 4))
    for start in range(0, total, size if size > 1 else 4096):
        writer.append(STDOUT, whole[start : start + (size if size > 1 else 4096)])
    everything = list(reader.read(SpoolPosition(START), END))
    (gap,) = [record for record, _ in everything if record.lost]
    begin, end = gap.start.seen - gap.lost, gap.start.seen
    rest = whole[:begin] + whole[end:]
    assert b"".join(record.data for record, _ in everything) == rest
    for offset in (0, 1, begin - 1, begin, begin + 1, end - 1, end, end + 1, total - 1, total):
        read = list(reader.read(reader.at(offset), END))
        assert b"".join(r.data for r, _ in read) == whole[offset:begin] + whole[max(offset, end) :]
        lost = sum(record.lost for record, _ in read)
        assert lost == max(0, end - max(offset, begin))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 4])
def test_flood_keeps_head_and_tail_and_counts_the_rest_exactly(fd: int, size: int) -> None:
    head = tail = 4 * SEGMENT
    writer = ConsoleWriter(fd, head, tail)
    total = size * 3 * SEGMENT
    for number in range(total // 16):
        writer.append(STDOUT, f"{number:015}\n".encode())
    read = list(ConsoleReader(fd, head, tail).read(SpoolPosition(), END))
    text = "".join(record.text for record, _ in read)
    lost = sum(record.lost for record, _ in read)
    assert len(text) + lost == total == writer.written
    assert (lost > 0) == (total > head + tail)
    assert text.startswith(f"{0:015}\n")
    assert text.endswith(f"{total // 16 - 1:015}\n")
    assert os.fstat(fd).st_size <= head + tail


@pytest.mark.slow
def test_reader_that_comes_back_misses_and_doubles_nothing(fd: int) -> None:
    writer, reader = ConsoleWriter(fd, 1 << 20, 1 << 20), ConsoleReader(fd, 1 << 20, 1 << 20)
    cursor, text = SpoolPosition(), ""
    for number in range(40_000):
        writer.append(STDOUT, f"{number}\n".encode())
        if number % 997 == 0:
            read = list(reader.read(cursor, writer.position))
            text += "".join(record.text for record, _ in read)
            cursor = read[-1][1]
    for record, _ in reader.read(cursor, END):
        text += record.text
    assert text == "".join(f"{n}\n" for n in range(40_000))


def test_reader_stops_at_the_position_of_an_event(fd: int) -> None:
    writer = ConsoleWriter(fd, 1 << 20, 1 << 20)
    writer.append(STDOUT, b"before")
    position = writer.position
    writer.append(STDOUT, b"after")
    read = ConsoleReader(fd, 1 << 20, 1 << 20).read(SpoolPosition(), position)
    assert [record.text for record, _ in read] == ["before"]


def test_slow_reader_overtaken_by_the_ring_learns_how_much_it_missed(fd: int) -> None:
    head = tail = 2 * SEGMENT
    writer, reader = ConsoleWriter(fd, head, tail), ConsoleReader(fd, head, tail)
    writer.append(STDOUT, b"x" * SEGMENT * 3)
    *_, (_, cursor) = reader.read(SpoolPosition(), writer.position)
    seen = cursor.seen
    writer.append(STDOUT, b"y" * SEGMENT * 9)
    rest = list(reader.read(cursor, END))
    assert seen + sum(len(r.text) + r.lost for r, _ in rest) == writer.written


def test_garbage_in_the_console_file_is_not_followed(fd: int) -> None:
    os.pwrite(fd, b"\xff" * SEGMENT, 0)
    assert list(ConsoleReader(fd, SEGMENT, SEGMENT).read(SpoolPosition(), END)) == []


def test_journal_gives_whole_events_only(fd: int) -> None:
    append_event(fd, {"event": "step", "exit": 0})
    os.write(fd, b'{"event": "half')
    assert read_events(fd) == [{"event": "step", "exit": 0}]


def test_a_cursor_is_found_by_the_bytes_before_it(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "console", os.O_RDWR | os.O_CREAT)
    sizes = 2 * SEGMENT, 2 * SEGMENT
    writer, reader = ConsoleWriter(fd, *sizes), ConsoleReader(fd, *sizes)
    assert reader.at(0) == SpoolPosition()
    writer.begin()
    assert reader.at(5) == SpoolPosition(START)
    for number in range(60):
        writer.append(STDOUT, bytes([65 + number % 26]) * 6000)

    def first(seen: int) -> Record:
        return next(reader.read(reader.at(seen), writer.position))[0]

    lost = 0
    for (_, before), (record, _) in itertools.pairwise(
        reader.read(SpoolPosition(START), writer.position)
    ):
        assert first(before.seen) == record
        if record.lost:
            lost += 1
            assert first(before.seen + 100) == replace(record, lost=record.lost - 100)
        else:
            second = first(before.seen + 1)
            assert (second.data, second.start) == (record.data[1:], record.start.after(1))
    assert lost == 1
    os.close(fd)


def test_output_behind_the_place_of_a_client_is_in_danger_before_it_is_overwritten(
    fd: int,
) -> None:
    sizes = 2 * SEGMENT, 8 * SEGMENT
    writer, reader = ConsoleWriter(fd, *sizes), ConsoleReader(fd, *sizes)
    writer.append(STDOUT, b"x" * SEGMENT)
    writer.served = writer.position
    size = 0
    while not writer.endangers:
        writer.append(STDOUT, b"y" * 1000)
        size += 1000
    rest = list(reader.read(SpoolPosition(writer.served, SEGMENT), END))
    assert sum(len(record.data) for record, _ in rest) == size > 4 * SEGMENT
    assert writer.dropped == 0 and not any(record.lost for record, _ in rest)
    writer.served = writer.position
    assert not writer.endangers, "the client has read everything"
    writer.append(STDOUT, b"z" * 20 * SEGMENT)
    assert writer.endangers and writer.dropped > 0
