"""The framing of a body in chunks: the broker and every reader behind it see the same end."""

from __future__ import annotations

import h11
import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.broker.chunked_body import FIELDS_MAX, TEXT_MAX, ChunkedBody
from sandboxd.errors import Invalid

from ..each_case import each_case

LINE_MAX = 2 * TEXT_MAX
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

BODY = (
    b"5\r\nhello\r\n1;a=b\r\n\n\r\n00a;x=\"y\\\r\n0\r\n\r\n0\r\n\r\n"
    b"\r\n000;end\r\nX-Sum: 1 2\r\nEmpty:\r\n\r\n"
)  # fmt: skip
"""A body whose chunks have what looks like an end, with extensions and a trailer."""


def passed(pieces: list[bytes]) -> tuple[bytes, bool]:
    """The bytes that go on when a body comes in these pieces, and whether its end has come."""
    body, data, out = ChunkedBody(), bytearray(), b""
    for piece in pieces:
        data += piece
        ready = body.read(data, len(data))
        out += data[:ready]
        del data[:ready]
        assert len(data) < LINE_MAX or body.is_over
        if body.is_over:
            break
    return out, body.is_over


def seen_by_h11(data: bytes) -> tuple[bytes, bool]:
    """The content of a body, as a reader behind the broker sees it."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=b"GET", target=b"/", headers=[(b"Host", b"x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(HEAD + data)
    content = b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            return content, False
        if isinstance(event, h11.Data):
            content += event.data
    assert reader.trailing_data[0] == b""
    return content, True


@each_case("first", range(len(BODY)))
def test_body_that_comes_in_three_pieces_is_passed_on_whole(first: int) -> None:
    for second in range(first, len(BODY)):
        pieces = [BODY[:first], BODY[first:second], BODY[second:] + b"HTTP/1.1 200 OK\r\n"]
        assert passed(pieces) == (BODY, True)


@each_case("size", [1, 2, 3, 7, 10_000])
def test_body_ends_for_its_reader_where_it_ends_for_the_broker(size: int) -> None:
    data = BODY + b"5\r\nother\r\n0\r\n\r\n"
    out, is_over = passed([data[at : at + size] for at in range(0, len(data), size)])
    assert is_over
    assert seen_by_h11(out) == (b"hello\n0\r\n\r\n0\r\n\r\n", True)


def test_body_without_its_end_is_passed_on_as_far_as_it_has_come() -> None:
    for cut in range(len(BODY)):
        out, is_over = passed([BODY[:cut]])
        assert not is_over and BODY.startswith(out)
        assert not seen_by_h11(out)[1]


def test_chunk_goes_on_with_the_end_of_its_line_before_the_next_one_comes() -> None:
    assert passed([b"5\r\nhello\r\n"]) == (b"5\r\nhello\r\n", False)
    assert passed([b"ffffffff\r\nhel"]) == (b"ffffffff\r\nhel", False)


WRONG = [
    b"\r\n", b"\n", b"g\r\n", b" 5\r\n", b"+5\r\n", b"-5\r\n", b"0x5\r\n", b"5_0\r\n", b"5\n",
    b"5\r\r\n", b"5 5\r\n", b"5,5\r\n", b"\xd9\xa5\r\n", b"5;a\nb\r\n", b"5;a\rb\r\n",
    b"5;a\0b\r\n", b"5;\x7f\r\n", b"10000000000000000\r\n", b"5 a\r\n", b"5\x0b\r\n", b"5 ;a\r\n",
    b"5" + b" " * 17 + b"\r\n", b"5;" + b"a" * (TEXT_MAX + 1) + b"\r\n",
    b"1\r\naa\r\n", b"1\r\na\n", b"1\r\na0\r\n\r\n", b"1\r\na\r\r\n", b"2\r\na\r\n0\r\n\r\n",
    b"0\n\n", b"0\r\n\n", b"0\r\na\r\n", b"0\r\na b: c\r\n", b"0\r\n a: b\r\n",
    b"0\r\na: b\r\n c\r\n", b"0\r\na:b\nc:d\r\n", b"0\r\na: b\0\r\n", b"0\r\n: b\r\n",
    b"0\r\nGET / HTTP/1.1\r\n", b"0\r\na:" + b"b" * (TEXT_MAX + 1), b"0\r\n" + b"a" * 257,
    b"0\r\n" + b"a:\r\n" * (FIELDS_MAX + 1),
]  # fmt: skip


@each_case("wrong", WRONG)
@each_case("before", [b"", b"1\r\na\r\n"])
def test_wrong_framing_is_refused_at_once_and_in_any_pieces(before: bytes, wrong: bytes) -> None:
    with pytest.raises(Invalid):
        passed([before + wrong])
    with pytest.raises(Invalid):
        passed([bytes([byte]) for byte in before + wrong])


@pytest.mark.parametrize("wrong", [b"1" * 17, b"1\r\na" + b"b", b"x", b"0\r\n("])
def test_wrong_line_is_refused_before_it_ends(wrong: bytes) -> None:
    with pytest.raises(Invalid):
        passed([wrong])


@hypothesis.given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.sampled_from([b"", b";a", b" "]))),
    st.lists(st.sampled_from([b"A: b\r\n", b"X-1:\r\n"]), max_size=3),
    st.lists(st.integers(1, 400), min_size=1),
)
def test_any_body_in_any_pieces_arrives_with_its_content(
    chunks: list[tuple[bytes, bytes]], fields: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), more, chunk) for chunk, more in chunks)
    data += b"0\r\n%b\r\n" % b"".join(fields)
    pieces, rest = [], data + b"behind"
    while rest:
        for size in sizes:
            pieces.append(rest[:size])
            rest = rest[size:]
    assert passed(pieces) == (data, True)
    assert seen_by_h11(data) == (b"".join(chunk for chunk, _ in chunks), True)


@hypothesis.given(
    st.lists(
        st.sampled_from([b"0", b"1", b"a", b";", b":", b"\r", b"\n", b"\r\n", b" ", b"1\r\na\r\n"]),
        max_size=20,
    ),
    st.integers(1, 9),
)
def test_whatever_comes_is_refused_or_ends_for_its_reader_too(
    parts: list[bytes], size: int
) -> None:
    data = b"".join(parts)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    try:
        out, is_over = passed(pieces)
    except Invalid:
        with pytest.raises(Invalid):
            passed([data])
        return
    assert passed([data]) == (out, is_over)
    assert seen_by_h11(out)[1] == is_over
