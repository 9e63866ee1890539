"""Random bytes on connections of a real server: heads, chunks, and frames of WebSockets.

The client closes its sending side after its bytes and reads to the end, so no test waits for luck.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies as st

from ..api.conftest import Server
from ..waiting import PATIENCE_S
from .values import small_effort

NAME = "fuzzed"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
MASK = b"\1\2\3\4"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that other tests do not use; its log has no traceback at the end."""
    server = Server(tmp_path_factory.mktemp("connections"))
    server.client.post("/session", json={"image": "c", "name": NAME})
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log() and "level=error" not in server.log()


def connect(server: Server) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE_S)
    sock.connect(server.path)
    return sock


def exchange(sock: socket.socket, *pieces: bytes) -> bytes:
    """All that the server sends for these bytes, to the end of the connection. The server may break
    the connection off before it has all of them."""
    received = b""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(1 << 16):
            received += piece
    return received


# -- HTTP

LINES = (
    b"GET / HTTP/1.1", b"POST /session HTTP/1.1", b"GET /healthz HTTP/1.0", b"PRI * HTTP/2.0",
    b"Host: x", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 5, 6",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue",
    b"Connection: close", b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket",
    b"Content-Type: multipart/form-data; boundary=b", b" folded", b": no name", b"No colon",
    b"X-Request-Id: " + b"a" * 200, b"X-Method-Override: \xff", b"Cookie: a=b; c", b"", b"5",
    b"hello", b"0", b"ffffffffffffffffff", b"5;extension=x", b'{"image": "c"}', b"Range: bytes=",
)  # fmt: skip
heads = st.lists(st.sampled_from(LINES) | st.binary(max_size=20), max_size=10).map(b"\r\n".join)


@small_effort
@hypothesis.given(heads | st.binary(max_size=200), st.integers(0, 200))
def test_bytes_of_an_http_connection_get_no_status_above_501(
    server: Server, data: bytes, cut: int
) -> None:
    with connect(server) as sock:
        answer = exchange(sock, data[:cut], data[cut:], b"\r\n\r\n")
    statuses = [int(status) for status in STATUS.findall(answer)]
    assert all(status < 500 or status == 501 for status in statuses), answer
    assert server.client.get("/healthz").status_code == 200


# -- WebSockets


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame of RFC 6455, which may break its rules."""
    first = draw(st.sampled_from(b"\x81\x82\x01\x00\x80\x88\x89\x8a\xc1\x83\xff"))
    payload = draw(
        st.binary(max_size=140)
        | st.sampled_from([
            b'{"mode": "batch", "options": {"exec": "out x"}}', b'{"mode": "continue"}', b"{}",
            b'{"type": "stdin", "chars": "eA=="}', b'{"type": "resize", "rows": 3, "cols": 9}',
            b'{"type": "ping"}', b'{"type": "restart"}', b"\x03\xe8bye", b"\x03", b"\xff\xfe",
        ])
    )  # fmt: skip
    masked = draw(st.sampled_from([0x80, 0x80, 0x80, 0]))
    length = draw(st.sampled_from([len(payload)] * 4 + [126, 1 << 15, 1 << 40, (1 << 63) + 5]))
    if length < 126:
        head = bytes((first, masked | length))
    elif length < 1 << 16:
        head = bytes((first, masked | 126)) + struct.pack(">H", length)
    else:
        head = bytes((first, masked | 127)) + struct.pack(">Q", length)
    if masked:
        payload = bytes(byte ^ MASK[n % 4] for n, byte in enumerate(payload))
        head += MASK
    return head + payload


HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)
PATHS = tuple(f"/stream/session/{NAME}/{kind}".encode() for kind in ("execute", "pty", "tcpproxy"))
EXTRA = (
    b"", b"", b"Sec-WebSocket-Extensions: permessage-deflate\r\n", b"Sec-WebSocket-Key: x\r\n",
    b"Sec-WebSocket-Protocol: \xff\r\n", b"Sec-WebSocket-Version: 99\r\n", b"Origin: null\r\n",
)  # fmt: skip


@small_effort
@hypothesis.given(
    st.sampled_from(PATHS), st.sampled_from(EXTRA), st.lists(frames() | st.binary(max_size=30))
)
def test_frames_of_a_websocket_are_served_or_end_it(
    server: Server, path: bytes, extra: bytes, sent: list[bytes]
) -> None:
    with connect(server) as sock:
        sock.sendall(HANDSHAKE % (path, extra))
        answer = sock.recv(1 << 16)
        exchange(sock, *sent)
    status = STATUS.match(answer)
    assert status and (int(status[1]) < 500 or int(status[1]) == 501), answer
    assert server.client.get("/healthz").status_code == 200
