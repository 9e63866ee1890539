"""Console items of a reply: no text is lost without a log item, and none is over the limit."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis
from hypothesis import strategies as st

from sandboxd.runs.console_items import CuttingCollector
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
