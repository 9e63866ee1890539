"""The check of the name in a ClientHello: the name that was asked for, or nothing is passed on."""

from __future__ import annotations

import hashlib
import ssl
import struct

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.broker.client_hello import DATA_MAX, HELLO_MAX, HelloCheck, asks_again, server_name
from sandboxd.errors import Invalid

from ..each_case import each_case

NAME = "index.example"


def real_hello(name: str | None = NAME) -> bytes:
    """The first bytes of a client of the ssl module."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, body: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, body)


def sni(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def hello(*extensions: bytes) -> bytes:
    """A ClientHello message with these extensions."""
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\1") + vector(1, b"\0")
    return b"\1" + vector(3, body + vector(2, b"".join(extensions)))


def records(message: bytes, size: int = 16384, kind: int = 22) -> bytes:
    """A message in records of this size."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(bytes([kind, 3, 1]) + vector(2, piece) for piece in pieces)


def test_hello_of_a_real_client_with_the_name_is_passed_on() -> None:
    data = real_hello()
    check = HelloCheck(NAME)
    assert check.feed(data)
    assert (check.hello, check.rest) == (data, b"")


def test_hello_that_comes_byte_by_byte_is_passed_on_when_it_is_complete() -> None:
    data, check = real_hello(), HelloCheck(NAME)
    states = [check.feed(data[at : at + 1]) for at in range(len(data))]
    assert states == [False] * (len(data) - 1) + [True]


def test_hello_in_many_records_is_passed_on() -> None:
    assert HelloCheck(NAME).feed(records(hello(sni(b"Index.Example")), size=7))


def test_bytes_behind_the_hello_stay_with_it() -> None:
    data, check = real_hello(), HelloCheck(NAME)
    assert check.feed(data + b"\x17\3\3\0\1x")
    assert (check.hello, check.rest) == (data, b"\x17\3\3\0\1x")


@each_case(
    ("data", "why"),
    [
        (real_hello("other.example"), "is 'other.example'"),
        (real_hello(None), "has no name"),
        (records(hello(sni(NAME.encode() + b"\0.evil.test"))), "no host"),
        (records(hello(sni(b"b\xc3\xbccher.example"))), "not ASCII"),
        (records(hello(sni(NAME.encode(), kind=1))), "unknown type"),
        (records(hello(sni(NAME.encode()), sni(b"other.example"))), "twice"),
        (records(hello(extension(0, vector(2, (b"\0" + vector(2, NAME.encode())) * 2)))), "behind"),
        (records(hello(sni(NAME.encode()), extension(0xFE0D, bytes(64)))), "encrypted"),
        (records(hello(sni(NAME.encode()), extension(0xFFCE, bytes(64)))), "encrypted"),
        (records(hello()), "has no name"),
        (records(hello(sni(NAME.encode())) + b"\1"), "behind its end"),
        (records(b"\1" + vector(3, b"\3\3" + bytes(32))), "cut off"),
        (records(b"\2" + vector(3, bytes(50))), "does not begin with a ClientHello"),
        (b"GET / HTTP/1.1\r\n", "does not speak TLS"),
        (b"\x16\2\1\0\5", "does not speak TLS"),
        (b"\x16\3\1\0\0", "does not speak TLS"),
        (b"\x16\3\1\xff\xff", "does not speak TLS"),
        (b"\x80\x2e\1\3\1", "does not speak TLS"),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak TLS"),
        (b"\x17\3\3\0\1x" + real_hello(), "does not speak TLS"),
        (records(hello(sni(NAME.encode())))[:30] + b"\x14\3\3\0\1\1", ""),
        (records(b"\1" + (HELLO_MAX + 1).to_bytes(3, "big")), "too large"),
    ],
)
def test_hello_that_may_name_another_host_is_refused(data: bytes, why: str) -> None:
    if not why:
        assert not HelloCheck(NAME).feed(data)
        return
    with pytest.raises(Invalid, match=why):
        HelloCheck(NAME).feed(data)


def test_hello_to_an_address_has_no_name() -> None:
    assert HelloCheck("192.0.2.1").feed(real_hello(None))
    with pytest.raises(Invalid, match="not an address"):
        HelloCheck("192.0.2.1").feed(real_hello("other.example"))


def test_second_hello_with_another_name_is_refused() -> None:
    change, early = records(b"\1", kind=20), records(b"early", kind=23)
    assert HelloCheck(NAME, is_second=True).feed(change + real_hello())
    assert HelloCheck(NAME, is_second=True).feed(early + change + real_hello())
    with pytest.raises(Invalid, match="other"):
        HelloCheck(NAME, is_second=True).feed(change + real_hello("other.example"))


def test_flood_before_the_second_hello_is_refused() -> None:
    early = records(bytes(16000), kind=23)
    check = HelloCheck(NAME, is_second=True)
    with pytest.raises(Invalid, match="too large"):
        for _ in range(2 * DATA_MAX // len(early)):
            check.feed(early)


def test_request_for_a_second_hello_is_known_by_its_random() -> None:
    retry = hashlib.sha256(b"HelloRetryRequest").digest()
    message = records(b"\2" + vector(3, b"\3\3" + retry + bytes(20)))
    assert asks_again(message) is True
    assert asks_again(message[:20]) is None
    assert asks_again(records(b"\2" + vector(3, bytes(60)))) is False
    assert asks_again(b"\x15\3\3\0\2\2\x28") is False
    assert asks_again(b"HTTP/1.1 400 Bad Request\r\n") is False


@hypothesis.given(st.binary(max_size=300))
def test_any_bytes_as_a_hello_are_read_or_refused(data: bytes) -> None:
    for call in (lambda: server_name(data), lambda: HelloCheck(NAME).feed(data)):
        try:
            assert call() in (None, False) or isinstance(call(), str)
        except Invalid:
            pass


@hypothesis.given(st.integers(0, 400), st.integers(0, 255))
def test_hello_with_a_changed_byte_never_passes_with_another_name(at: int, value: int) -> None:
    data = bytearray(records(hello(sni(NAME.encode()))))
    data[at % len(data)] = value
    try:
        passed = HelloCheck(NAME).feed(bytes(data))
    except Invalid:
        return
    if passed:
        assert server_name(bytes(data[9:])) == NAME or NAME.upper() in str(data).upper()
