"""Clients that use more than their share of a real server: each is refused or disconnected, the
others are served, and the memory of the api does not grow."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from sandboxd.api.http import body_reader
from sandboxd.api.http.body_budget import BodyBudget, count_body, release
from sandboxd.api.http.body_reader import BodyReader

from ..waiting import PATIENCE_S, until
from .bad_requests import assert_problem
from .conftest import Server
from .test_admission import BUSY, call, create

pytestmark = pytest.mark.slow  # a server for each flood

MIB = 1 << 20
GROWTH_MAX = 64 * MIB


@contextlib.contextmanager
def flat(server: Server) -> Iterator[None]:
    """The memory of the api does not grow."""
    server.client.get("/")
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    yield
    grown = process.memory_info().rss - before
    assert grown < GROWTH_MAX, f"{grown / MIB:.0f} MiB more"
    assert server.client.get("/").status_code == 200, "others are served"


def connect(server: Server) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE_S)
    sock.connect(server.path)
    return sock


def refusal(response: httpx.Response) -> httpx.Response | None:
    return response if response.status_code == 429 else None


def test_requests_of_one_key_at_once_are_bounded_and_another_key_is_served(
    start: Callable[..., Server],
) -> None:
    server = start({"http": {"requests": 4}})
    ann, ben = (server.signed(server.keypair()) for _ in range(2))
    id = create(ann)
    call(ann, id, "batch", "r", exec=BUSY)
    call(ann, id, "continue", "r")
    over = threading.Event()

    def poll() -> None:
        while not over.is_set():
            ann.post(f"/session/{id}", json={"mode": "continue", "runId": "r"})

    waiting = [threading.Thread(target=poll) for _ in range(5)]
    for thread in waiting:
        thread.start()
    refused = until(lambda: refusal(ann.get(f"/session/{id}")))
    assert_problem(refused, 429, "/rate-limit-exceeded")
    assert int(refused.headers["retry-after"]) > 0
    assert ben.get("/folders").status_code == 200
    over.set()
    for thread in waiting:
        thread.join()
    assert ann.get(f"/session/{id}").status_code == 200


def test_open_event_streams_count_as_requests(start: Callable[..., Server]) -> None:
    server = start({"http": {"requests": 2}})
    ann = server.signed(server.keypair())
    with ann.stream("GET", "/events/session"), ann.stream("GET", "/events/session"):
        assert_problem(ann.get("/folders"), 429)
    until(lambda: ann.get("/folders").status_code == 200)  # as soon as it has seen them go


def test_unfinished_bodies_cost_little_memory_and_hinder_no_other_request(
    start: Callable[..., Server],
) -> None:
    server = start({"http": {"bodies": 8 * MIB}})
    head = b"POST /session HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
    with contextlib.ExitStack() as stack, flat(server):
        sockets, refused = [stack.enter_context(connect(server)) for _ in range(40)], 0
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.sendall(head + b" " * 1_900_000)
            sock.setblocking(False)

        def most_are_refused() -> bool:
            nonlocal refused
            for sock in sockets:
                with contextlib.suppress(OSError):
                    refused += sock.recv(100).startswith(b"HTTP/1.1 503 ")
            return refused >= 30

        until(most_are_refused, why=lambda: f"{refused} are refused")
    until(lambda: server.client.post("/session", json={"image": "c"}).status_code == 201)


def test_download_that_nobody_reads_costs_no_memory(own_server: Server) -> None:
    http = own_server.client
    id = create(http)
    http.post(f"/session/{id}/upload", files={"src": ("big", os.urandom(MIB))})
    request = f"GET /session/{id}/download_single?file=big HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with contextlib.ExitStack() as stack, flat(own_server):
        for _ in range(8):  # as many as may be open
            stack.enter_context(connect(own_server)).sendall(request)
        own_server.rest()
        assert http.get(f"/session/{id}").status_code == 200


def test_console_that_nobody_reads_costs_little_memory(own_server: Server) -> None:
    http = own_server.client
    id = create(http)
    call(http, id, "batch", "r", exec="flood 262144")
    for _ in range(2):
        call(http, id, "continue", "r")
    body = b'{"mode": "continue", "runId": "r"}'
    request = b"POST /session/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
    with contextlib.ExitStack() as stack, flat(own_server):
        for _ in range(100):
            sock = stack.enter_context(connect(own_server))
            sock.sendall(request % (id.encode(), len(body), body))
        own_server.rest()


def handshake(server: Server, id: str) -> socket.socket:
    """The socket of a WebSocket; the test sends bytes of its choice over it."""
    sock = connect(server)
    sock.sendall(
        f"GET /stream/session/{id}/execute HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
    return sock


def frame(opcode: int, data: bytes, fin: bool = True) -> bytes:
    """A client's frame (RFC 6455, section 5.2), masked with zeros."""
    return struct.pack("!BB4x", opcode | (0x80 if fin else 0), 0x80 | len(data)) + data


@pytest.mark.parametrize(
    ("first", "flood"),
    [(b"", frame(9, b"x" * 100) * 100), (frame(1, b"x", False), frame(0, b"", False) * 1000)],
    ids=["pings", "empty fragments"],
)
def test_websocket_that_floods_the_server_is_closed(
    own_server: Server, first: bytes, flood: bytes
) -> None:
    id = create(own_server.client)
    with flat(own_server), handshake(own_server, id) as sock:
        sock.sendall(first)
        with pytest.raises(OSError):  # broken pipe or reset; a time-out would be one, too
            for _ in range(20000):
                sock.sendall(flood)
        with pytest.raises(ConnectionError):
            sock.sendall(flood)


# -- slow bodies, with a short patience


def body_of(pieces: list[tuple[float, bytes]]) -> Any:
    """The result of `read` for a body whose pieces come after so many seconds each."""

    async def go() -> Any:
        coming = iter(pieces)

        async def receive() -> dict[str, Any]:
            delay, piece = next(coming)
            await asyncio.sleep(delay)
            return {"type": "http.request", "body": piece, "more_body": True}

        app = SimpleNamespace(
            state=SimpleNamespace(sandboxd=SimpleNamespace(bodies=BodyBudget(MIB)))
        )
        request = Request({"type": "http", "method": "POST", "app": app}, receive)
        incoming = BodyReader(request)
        while True:
            await incoming.piece()

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("pieces", "at_least"),
    [([(9, b"x")], 1), ([(0.1, b"x")] * 90, 1), ([(0.1, b"x" * 20)] * 4 + [(9, b"")], 1.3)],
    ids=["silent", "trickling", "stops"],
)
def test_body_that_comes_too_slowly_is_408(
    monkeypatch: pytest.MonkeyPatch, pieces: list[tuple[float, bytes]], at_least: float
) -> None:
    monkeypatch.setattr(body_reader, "IDLE_S", 1.0)
    monkeypatch.setattr(body_reader, "RATE_MIN", 100)
    began = time.monotonic()
    with pytest.raises(HTTPException) as refused:
        body_of(pieces)
    assert refused.value.status_code == 408
    assert at_least <= time.monotonic() - began


def body(budget: BodyBudget, owner: str = "") -> Request:
    """A request, whose body counts."""
    state = {"caller": SimpleNamespace(name=owner)} if owner else {}
    app = SimpleNamespace(state=SimpleNamespace(sandboxd=SimpleNamespace(bodies=budget)))
    return Request({"type": "http", "method": "POST", "app": app, "state": state})


def test_budget_for_bodies_is_released() -> None:
    budget = BodyBudget(10)
    first, second = body(budget), body(budget)
    count_body(first, 6)
    count_body(second, 4)
    with pytest.raises(HTTPException) as refused:
        count_body(first, 1)
    assert refused.value.status_code == 503 and refused.value.headers
    release(second.scope)
    count_body(first, 4)
    release(first.scope)
    release(first.scope)
    count_body(body(budget), 10)


def test_owner_cannot_use_up_the_budget_for_bodies_of_others() -> None:
    budget = BodyBudget(10)
    count_body(body(budget, "ann"), 5)
    with pytest.raises(HTTPException):
        count_body(body(budget, "ann"), 1)
    count_body(body(budget, "ben"), 5)
