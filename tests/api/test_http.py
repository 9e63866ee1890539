"""Bytes that are hardly HTTP, over a real socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from ..each_case import each_case
from ..waiting import PATIENCE_S
from .conftest import Server

HOST = b"Host: x\r\n"


def connect(server: Server) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE_S)
    sock.connect(server.path)
    return sock


def exchange(server: Server, data: bytes, half_close: bool = False) -> bytes:
    """All that comes back for these bytes until the server closes."""
    with connect(server) as sock:
        sender = threading.Thread(target=_send, args=(sock, data, half_close))
        sender.start()
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := sock.recv(65536):
                received += piece
        sender.join()
    return received


def _send(sock: socket.socket, data: bytes, half_close: bool) -> None:
    try:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def assert_refused(received: bytes, status: int) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received[:200]
    assert b"application/problem+json" in head and b"server: BackendAI" in head
    problem = json.loads(body)
    assert problem["title"] and problem["type"]


@each_case(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: many\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET http:// HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT x HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
def test_bytes_that_are_no_request_are_answered_with_400(server: Server, data: bytes) -> None:
    assert_refused(exchange(server, data), 400)


@each_case(
    "data",
    [
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Big: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Many: 0123456789\r\n" * 5000 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Endless: " + b"x" * 4_000_000,
        b"GET /" + b"x" * 4_000_000,
    ],
)
def test_a_head_that_is_too_large_is_431(server: Server, data: bytes) -> None:
    assert_refused(exchange(server, data), 431)


def test_a_large_head_within_the_bound_is_served(server: Server) -> None:
    big = b"X-Big: " + b"x" * 60_000 + b"\r\n"
    received = exchange(server, b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + big + b"\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")


def test_requests_on_one_connection_are_counted_apart(server: Server) -> None:
    one = b"GET / HTTP/1.1\r\n" + HOST + b"X-Big: " + b"x" * 50_000 + b"\r\n\r\n"
    with connect(server) as sock:
        for _ in range(5):
            sock.sendall(one)
            received = b""
            while not received.endswith(b"}"):
                received += sock.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    one = b"GET /%d HTTP/1.1\r\n" + HOST + b"\r\n"
    last = (one % 2).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    received = exchange(server, one % 0 + one % 1 + last)
    assert received.index(b'"/0"') < received.index(b'"/1"') < received.index(b'"/2"')


def test_a_half_closed_connection_still_gets_its_answer(server: Server) -> None:
    received = exchange(server, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", half_close=True)
    assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "data",
    [
        b"POST /session HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n{",
        b"POST /session HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
def test_a_request_that_ends_early_is_400(server: Server, data: bytes) -> None:
    assert_refused(exchange(server, data, half_close=True), 400)


def test_a_websocket_for_an_unknown_session_is_refused_with_404(server: Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    head = b"GET /stream/session/x/execute HTTP/1.1\r\n" + HOST + upgrade
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    assert_refused(exchange(server, head + key + b"\r\n"), 404)


@each_case("path", ["/%ff", "/%00", "/session/%ff%fe", "/a%0d%0ab", "/%E2%80%AE"])
def test_strange_paths_are_404(server: Server, path: str) -> None:
    data = b"GET " + path.encode() + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    assert_refused(exchange(server, data), 404)


def test_a_client_that_expects_100_continue_is_asked_for_its_body(server: Server) -> None:
    with connect(server) as sock:
        head = b"POST /session HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
        sock.sendall(head + HOST + b"\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"{}")
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")
