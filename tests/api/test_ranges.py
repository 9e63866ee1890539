"""Ranges, against what slicing a file of a few bytes gives."""

from __future__ import annotations

import pytest

from sandboxd.api.http import ranges

from ..each_case import each_case

DATA = bytes(range(5))
TIME = "Tue, 01 Jan 2030 00:00:00 GMT"


@each_case("first", range(7))
@each_case("last", [None, *range(7)])
def test_range_of_a_request_is_the_slice_of_the_file(first: int, last: int | None) -> None:
    text = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        assert ranges.span(text, "", len(DATA), TIME) is None
    elif first >= len(DATA):
        with pytest.raises(ValueError):
            ranges.span(text, "", len(DATA), TIME)
    else:
        start, end = ranges.span(text, "", len(DATA), TIME) or (0, 0)
        assert DATA[start:end] == DATA[first : None if last is None else last + 1]


@each_case("count", range(1, 8))
def test_range_with_a_suffix_is_the_end_of_the_file(count: int) -> None:
    start, end = ranges.span(f"bytes=-{count}", "", len(DATA), TIME) or (0, 0)
    assert DATA[start:end] == DATA[-count:]


def test_every_range_of_an_empty_file_is_refused() -> None:
    for text in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        with pytest.raises(ValueError):
            ranges.span(text, "", 0, TIME)
    with pytest.raises(ValueError):
        ranges.span("bytes=-0", "", 5, TIME)


@each_case(
    "text", ["", "bytes", "bytes=", "bytes=-", "lines=0-1", "bytes=0-1,3-4", "bytes=a-b", "0-1",
             "bytes=0-99999999999999999999", "bytes=--1"],
)  # fmt: skip
def test_header_that_is_no_single_range_is_ignored(text: str) -> None:
    assert ranges.span(text, "", 5, TIME) is None


def test_range_of_another_version_of_the_file_is_ignored() -> None:
    assert ranges.span("bytes=1-2", TIME, 5, TIME) == (1, 3)
    assert ranges.span("bytes=1-2", "Mon, 31 Dec 2029 00:00:00 GMT", 5, TIME) is None
