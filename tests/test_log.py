"""The lines of the log: their form, no forged lines, and no waiting for a line to be written."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd import log

from .each_case import each_case

VALUES = st.one_of(st.text(max_size=300), st.integers(), st.booleans())


@hypothesis.given(st.dictionaries(st.sampled_from(["act", "session", "name", "error"]), VALUES))
def test_a_line_reads_back_whatever_its_values_hold(fields: dict[str, Any]) -> None:
    assert json.loads(log.line(fields, "json")) == fields
    text = log.line(fields, "text")
    assert text.isascii() and text.isprintable()
    parsed = dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', text))
    assert set(parsed) == set(fields)
    for key, value in fields.items():
        shown = parsed[key]
        read = json.loads(shown) if shown.startswith('"') else shown
        assert read == (str(value).lower() if isinstance(value, bool) else str(value))


@each_case(
    "forged",
    [
        'x\nlevel=error event=audit act=session.delete owner="root"',
        "x outcome=ok",
        'x" outcome="ok',
        "x\r\x1b[2K\x1b]0;title\x07",
        "x\u2028y\u202ez\x85",
        "\udcff\x00",
    ],
)
def test_a_clients_text_can_neither_end_a_line_nor_begin_a_field(forged: str) -> None:
    for form in log.FORMS:
        text = log.line({"name": forged, "outcome": "refused"}, form)
        assert text.isascii() and text.isprintable()
    text = log.line({"name": forged, "outcome": "refused"}, "text")
    words = shlex.split(text)  # for a shell, a quoted value is one word
    assert len(words) == 2 and words[1] == "outcome=refused"


@hypothesis.given(st.lists(st.text(min_size=200, max_size=5000), max_size=12))
def test_a_line_never_exceeds_what_a_pipe_takes_at_once(values: list[str]) -> None:
    fields = {f"f{number}": value for number, value in enumerate(values)}
    for form in log.FORMS:
        assert len(log.line(fields, form).encode()) <= log.LINE_MAX - len("<6>\n")
    json.loads(log.line(fields, "json"))


def test_of_a_traceback_the_end_is_kept() -> None:
    text = log.line({"trace": "begin" + "x" * 9000 + "end", "msg": "first" + "y" * 9000}, "text")
    assert "end" in text and "begin" not in text and "first" in text


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def record(**fields: Any) -> logging.LogRecord:
    record = logging.LogRecord("sandboxd", logging.INFO, __file__, 1, "test", (), None)
    record.event, record.fields = "test", fields
    return record


def test_a_log_that_nobody_reads_loses_lines_instead_of_stopping_the_daemon(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    handler = log.Handler(writing, "json", "api", journal=False)
    for number in range(2000):
        handler.emit(record(number=number, filler="x" * 500))
    assert handler.dropped > 1000
    lines = os.read(reading, 1 << 20).decode().splitlines()
    assert [json.loads(one)["number"] for one in lines] == list(range(2000 - handler.dropped))
    handler.emit(record(number=-1))
    notice, last = (json.loads(one) for one in os.read(reading, 1 << 20).decode().splitlines())
    assert (notice["event"], notice["lines"]) == ("log.dropped", handler.dropped)
    assert last["number"] == -1


def test_a_reader_that_is_gone_stops_nothing(pipe: tuple[int, int]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    handler = log.Handler(writing, "text", "api", journal=False)
    handler.emit(record())
    os.close(writing)
    assert handler.dropped == 1


def test_in_the_journal_a_line_begins_with_its_priority_and_has_no_time(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = pipe
    status = os.fstat(writing)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert log._is_journal(writing)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
    assert not log._is_journal(writing)
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not log._is_journal(writing)
    handler = log.Handler(writing, "text", "warden", journal=True)
    handler.emit(record(session="s"))
    assert os.read(reading, 4096) == b"<6>level=info part=warden event=test session=s\n"


def test_an_exception_is_one_line_with_its_traceback(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = log.Handler(writing, "text", "api", journal=False)
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    handler.emit(logging.LogRecord("x", logging.ERROR, __file__, 1, "a\nb %s", ("c",), info))
    text = os.read(reading, 4096).decode()
    assert text.count("\n") == 1 and 'msg="a b c"' in text and "test_log.py" in text
    assert 'error="ValueError: two\\nlines"' in text


def test_the_context_of_a_request_is_in_its_lines_and_in_no_others(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = log.Handler(writing, "json", "api", journal=True)
    token = log.context.set({"request": "r1"})
    handler.emit(record(act="a"))
    handler.emit(record(request=None))
    log.context.reset(token)
    handler.emit(record())
    lines = [json.loads(one[3:]) for one in os.read(reading, 4096).decode().splitlines()]
    assert [one.get("request") for one in lines] == ["r1", None, None]
