"""The frames of a terminal: whatever a client sends is a frame or refused with what is allowed."""

from __future__ import annotations

import base64
import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.routes import frames
from sandboxd.errors import Invalid
from sandboxd.model import Verdict
from sandboxd.runs.journal import JournalEvent

from ..each_case import each_case

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KINDS = st.sampled_from(["stdin", "resize", "ping", "restart", "out", "", "STDIN"])
KEYS = st.sampled_from(["type", "chars", "rows", "cols", "data"])


@hypothesis.given(st.binary())
def test_every_byte_can_be_input_to_a_terminal(data: bytes) -> None:
    text = json.dumps({"type": "stdin", "chars": base64.b64encode(data).decode()})
    assert frames.read(text) == frames.StdinFrame(data)


@hypothesis.given(st.binary())
def test_every_byte_can_be_output_of_a_terminal(data: bytes) -> None:
    frame = json.loads(frames.out(data))
    assert frame["type"] == "out" and base64.b64decode(frame["data"], validate=True) == data


@each_case(
    ("sent", "frame"),
    [
        ({"type": "resize", "rows": 1, "cols": 65535}, frames.ResizeFrame(1, 65535)),
        ({"type": "resize", "rows": "24", "cols": 80, "more": []}, frames.ResizeFrame(24, 80)),
        ({"type": "ping"}, frames.PingFrame()),
        ({"type": "restart", "x": None}, frames.RestartFrame()),
        ({"chars": "", "type": "stdin"}, frames.StdinFrame(b"")),
    ],
)
def test_frames_of_the_official_clients_are_read(sent: Any, frame: frames.Frame) -> None:
    assert frames.read(json.dumps(sent)) == frame


@each_case(
    "text",
    [
        "", "x", "null", "5", "[]", "{}", '"stdin"', '{"type": null}', '{"type": 5}',
        '{"type": "out", "data": ""}', '{"type": "stdin"}', '{"type": "stdin", "chars": null}',
        '{"type": "stdin", "chars": "a"}', '{"type": "stdin", "chars": "é"}',
        '{"type": "stdin", "chars": "YQ==YQ=="}', '{"type": "stdin", "chars": [97]}',
        '{"type": "resize"}', '{"type": "resize", "rows": 24}',
        '{"type": "resize", "rows": 0, "cols": 80}', '{"type": "resize", "rows": -1, "cols": 80}',
        '{"type": "resize", "rows": 24, "cols": 65536}',
        '{"type": "resize", "rows": 24.5, "cols": 80}', '{"type": "resize", "rows": NaN}',
        '{"type": "resize", "rows": 1e999, "cols": 1}', "[" * 100_000, '{"type": "ping"',
        '{"type": "ping"} {}', '{"type": "\\ud800"}', "\ud800", '{"a":' * 100_000,
    ],
)  # fmt: skip
def test_malformed_terminal_frame_is_refused_with_the_allowed_frames(text: str) -> None:
    with pytest.raises(Invalid, match="rows, cols from 1 to 65535"):
        frames.read(text)


@hypothesis.given(st.text() | JSON.map(json.dumps))
def test_random_text_as_a_terminal_frame_is_refused_without_another_error(text: str) -> None:
    try:
        frames.read(text)
    except Invalid as error:
        json.loads(frames.error(str(error)))


@hypothesis.given(st.dictionaries(KEYS, KINDS | JSON).map(json.dumps))
def test_nearly_right_terminal_frame_is_refused_without_another_error(text: str) -> None:
    try:
        frame = frames.read(text)
    except Invalid:
        return
    if isinstance(frame, frames.ResizeFrame):
        assert 1 <= frame.rows <= 65535 and 1 <= frame.cols <= 65535


def test_the_last_frame_of_a_terminal_has_exit_code_and_verdict() -> None:
    event = JournalEvent("exec", 3, 0, True, Verdict("failure"))
    frame = json.loads(frames.end(event))
    assert (frame["type"], frame["data"], frame["exitCode"]) == ("end", "", 3)
    assert frame["verdict"]["outcome"] == "failure"
    assert json.loads(frames.end(None))["exitCode"] is None


def test_error_frame_may_contain_a_name_that_is_not_utf8() -> None:
    assert json.loads(frames.error("stage \udcff"))["data"] == "stage \udcff"
