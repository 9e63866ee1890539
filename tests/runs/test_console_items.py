"""Console items of a reply: no text is lost without a log item, and none is over the limit."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import hypothesis
from hypothesis import strategies as st

from sandboxd.runs.console_items import BASE64, TEXT, Collector, CuttingCollector
from sandboxd.spool import STDERR, STDOUT, Record

records = st.lists(
    st.builds(
        Record, st.sampled_from([STDOUT, STDERR]), st.text(min_size=1, max_size=9).map(str.encode)
    )
)
KINDS = {STDOUT: "stdout", STDERR: "stderr"}


def collected(stored: list[Record], limit: int) -> list[Any]:
    collector = CuttingCollector(limit)
    for record in stored:
        collector.add(record)
    return collector.items()


@hypothesis.given(records)
def test_each_console_stream_arrives_whole_and_in_order(stored: list[Record]) -> None:
    items = collected(stored, 10_000)
    for stream, kind in KINDS.items():
        sent = "".join(r.text for r in stored if r.stream == stream)
        assert "".join(text for k, text in items if k == kind) == sent


@hypothesis.given(records)
def test_neighbouring_records_of_a_stream_are_one_item(stored: list[Record]) -> None:
    items = collected(stored, 10_000)
    assert all(a[0] != b[0] for a, b in itertools.pairwise(items))


@hypothesis.given(records, st.integers(0, 20))
def test_console_text_over_the_limit_is_cut_and_counted(stored: list[Record], limit: int) -> None:
    items = collected(stored, limit)
    for stream, kind in KINDS.items():
        sent = "".join(r.text for r in stored if r.stream == stream)
        assert "".join(text for k, text in items if k == kind) == sent[:limit]
        messages = [d[3] for k, d in items if k == "log" and f"of {kind} " in d[3]]
        cut = max(0, len(sent) - limit)
        assert [int(text.split()[0]) for text in messages] == ([cut] if cut else [])


def test_gap_in_the_spool_is_logged_in_its_place_and_separates_items() -> None:
    items = collected(
        [Record(STDOUT, b"a"), Record(STDOUT, b"b", lost=7), Record(STDOUT, b"c", lost=5)], 99
    )
    assert [item[0] for item in items] == ["stdout", "log", "stdout"]
    assert items[1][1][3].startswith("12 bytes") and items[2][1] == "bc"


def test_gap_in_the_spool_before_cut_text_is_logged_too() -> None:
    items = collected([Record(STDOUT, b"abc"), Record(STDOUT, b"d", lost=7)], 3)
    assert [item[0] for item in items] == ["stdout", "log", "log"]


def test_log_item_has_level_time_logger_and_message() -> None:
    (_, (kind, (level, time, logger, message))) = collected(
        [Record(STDOUT, b"a"), Record(9, b"b", lost=1)], 99
    )
    assert (kind, level, logger) == ("log", "warning", "sandboxd")
    assert "T" in time and message


def test_records_of_unknown_streams_are_left_out() -> None:
    assert collected([Record(7, b"evil"), Record(STDERR, b"e")], 99) == [["stderr", "e"]]


pieces = st.lists(
    st.sampled_from([b"a", "é".encode(), "😀".encode(), b"\xff", b"\xe2\x82", b"\x80"])
)


@hypothesis.given(pieces.map(b"".join), st.integers(0, 30))
def test_beginning_of_a_text_ends_behind_whole_characters(data: bytes, size: int) -> None:
    text = data.decode("utf-8", "replace")
    prefix = TEXT.prefix(data, size)
    assert data[:prefix].decode("utf-8", "replace") == text[:size]
    assert data[prefix:].decode("utf-8", "replace") == text[size:]


@hypothesis.given(pieces.map(b"".join), st.integers(0, 30))
def test_beginning_of_bytes_is_not_longer_than_its_room_and_ends_within_no_character(
    data: bytes, size: int
) -> None:
    prefix = BASE64.prefix(data, size)
    assert min(size, len(data)) - 3 <= prefix <= size and (prefix or not size)
    assert BASE64.size(data[:prefix]) <= size


@hypothesis.given(st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=9))))
def test_items_in_base64_are_exactly_the_bytes_of_the_program(
    stored: list[tuple[int, bytes]],
) -> None:
    collector = Collector(10_000, BASE64)
    for stream, data in stored:
        collector.add(Record(stream, data))
    for stream, kind in KINDS.items():
        items = [base64.b64decode(data) for k, data in collector.items() if k == kind]
        assert b"".join(items) == b"".join(data for s, data in stored if s == stream)


def test_collector_without_room_takes_a_part_and_logs_nothing() -> None:
    collector = Collector(4)
    assert collector.add(Record(STDOUT, "ab€".encode())) == 5
    assert collector.add(Record(STDERR, b"error")) == 4
    assert collector.add(Record(STDOUT, "€uro".encode())) == 3
    assert collector.add(Record(STDOUT, b"more", lost=9)) == 0, "the gap is for the next reply"
    assert [kind for kind, _ in collector.items()] == ["stdout", "stderr", "stdout"]
