"""The WebSocket of a terminal: frames both ways, restart, and how it ends."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from sandboxd.model import TERMINALS_MAX

from ..waiting import PATIENCE_S, until
from .conftest import Server
from .moved_clock import let_pass
from .test_stream import memory

Frame = dict[str, Any]
Connect = Callable[[], Any]


@contextmanager
def sit(server: Server, ref: str) -> Iterator[ClientConnection]:
    url = f"ws://sandboxd/stream/session/{ref}/pty"
    with unix_connect(server.path, url, max_size=1 << 20, close_timeout=PATIENCE_S) as websocket:
        yield websocket


@pytest.fixture
def connect(server: Server, session: str) -> Connect:
    """Opens a terminal of the test's session."""
    return lambda: sit(server, session)


def send(websocket: ClientConnection, kind: str, **fields: Any) -> None:
    websocket.send(json.dumps({"type": kind} | fields))


def type_(websocket: ClientConnection, text: bytes) -> None:
    send(websocket, "stdin", chars=base64.b64encode(text).decode())


def frame(websocket: ClientConnection) -> Frame:
    received: Frame = json.loads(websocket.recv(timeout=PATIENCE_S))
    return received


def shown(websocket: ClientConnection, size: int) -> bytes:
    """The next `size` bytes on the terminal."""
    data = bytearray()
    while len(data) < size:
        received = frame(websocket)
        assert received["type"] == "out", received
        data += base64.b64decode(received["data"])
    return bytes(data)


def to_the_end(websocket: ClientConnection) -> list[Frame]:
    received: list[Frame] = []
    try:
        while True:
            received.append(frame(websocket))
    except ConnectionClosed as closed:
        assert closed.rcvd and closed.rcvd.code == 1000
    return [each for each in received if each["type"] != "out"]


def open_terminals(http: httpx.Client, session: str) -> int:
    return int(http.get(f"/session/{session}").json()["sandbox"]["terminals"])


def test_bytes_of_a_terminal_are_not_changed_in_either_direction(connect: Connect) -> None:
    everything = bytes(range(256)) * 1024
    with connect() as websocket:
        type_(websocket, everything)
        assert shown(websocket, len(everything)) == everything
        send(websocket, "resize", rows=50, cols=132)
        assert shown(websocket, 6) == b"50x132"
        send(websocket, "ping")
        websocket.send(b"binary frames mean nothing")
        type_(websocket, b"x")
        assert shown(websocket, 1) == b"x", "a ping has no answer"


def test_the_exit_of_a_shell_is_sent_with_its_verdict_and_closes(
    connect: Connect, http: httpx.Client, session: str
) -> None:
    with connect() as websocket:
        assert open_terminals(http, session) == 1
        type_(websocket, b"exit 4\n")
        (end,) = to_the_end(websocket)
    assert (end["type"], end["exitCode"], end["data"]) == ("end", 4, "")
    assert end["verdict"]["outcome"] == "success"
    assert open_terminals(http, session) == 0


def test_a_terminal_that_a_limit_ends_has_no_exit_code(connect: Connect) -> None:
    with connect() as websocket:
        type_(websocket, b"timeout\n")
        *_, end = to_the_end(websocket)
    assert (end["type"], end["exitCode"]) == ("end", None)


def test_restart_begins_a_new_terminal_of_the_same_size_on_the_same_connection(
    connect: Connect, http: httpx.Client, session: str
) -> None:
    with connect() as websocket:
        type_(websocket, b"old")
        assert shown(websocket, 3) == b"old"
        send(websocket, "resize", rows=30, cols=90)
        assert shown(websocket, 5) == b"30x90"
        for text in (b"new", b"newer"):
            send(websocket, "restart")
            type_(websocket, text)
            assert shown(websocket, 5 + len(text)) == b"30x90" + text
        assert open_terminals(http, session) == 1
        assert http.get(f"/session/{session}").json()["sandbox"]["runs"]["begun"] == 3


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{}", '{"type": "out"}', '{"type": "stdin", "chars": "?"}', "[" * 20_000,
     '{"type": "resize", "rows": 0, "cols": 80}'],
)  # fmt: skip
def test_a_malformed_frame_is_refused_and_the_terminal_goes_on(connect: Connect, text: str) -> None:
    with connect() as websocket:
        websocket.send(text)
        answer = frame(websocket)
        assert answer["type"] == "error" and "ping or restart" in answer["data"]
        type_(websocket, b"on")
        assert shown(websocket, 2) == b"on"


def test_a_frame_that_is_too_large_ends_the_connection(
    connect: Connect, http: httpx.Client, session: str
) -> None:
    with connect() as websocket, pytest.raises(ConnectionClosed):
        type_(websocket, b"x" * (3 << 20))
        websocket.recv(timeout=PATIENCE_S)
    until(lambda: open_terminals(http, session) == 0)


def test_the_client_of_a_terminal_learns_of_dropped_input(connect: Connect) -> None:
    with connect() as websocket:
        type_(websocket, b"drop\n")
        assert frame(websocket)["data"].startswith("5 bytes of input were dropped")


def test_a_shim_that_talks_nonsense_loses_its_terminal_alone(
    connect: Connect, server: Server
) -> None:
    with connect() as other, connect() as websocket:
        type_(websocket, b"nonsense\n")
        assert to_the_end(websocket)[-1]["type"] == "end"
        type_(other, b"on")
        assert shown(other, 2) == b"on"
    assert "sent an invalid message" in server.log()


def test_a_terminal_ends_when_its_client_leaves(
    connect: Connect, http: httpx.Client, session: str
) -> None:
    with connect() as websocket:
        type_(websocket, b"x")
        shown(websocket, 1)
    until(lambda: open_terminals(http, session) == 0)


def test_batch_runs_do_not_wait_for_a_terminal(
    connect: Connect, run: Callable[..., list[Frame]]
) -> None:
    with connect() as websocket:
        type_(websocket, b"x")
        shown(websocket, 1)
        assert run(exec="out done")[-1]["console"] == [["stdout", "done\n"]]
        type_(websocket, b"y")
        assert shown(websocket, 1) == b"y"


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_session_that_ends_or_restarts_closes_its_terminals(
    server: Server, http: httpx.Client, method: str
) -> None:
    id = http.post("/session", json={"image": "c"}).json()["sessionId"]
    with sit(server, id) as one, sit(server, id) as two:
        type_(one, b"x")
        shown(one, 1)
        assert http.request(method, f"/session/{id}").status_code < 300
        for websocket in (one, two):
            *words, end = to_the_end(websocket)
            assert (end["type"], end["exitCode"]) == ("end", None)
            assert "session" in words[-1]["data"]
    if method == "PATCH":
        with sit(server, id) as again:
            type_(again, b"x")
            assert shown(again, 1) == b"x"
    http.delete(f"/session/{id}")


def test_the_terminals_of_a_session_are_bounded(
    server: Server, http: httpx.Client, session: str
) -> None:
    with ExitStack() as stack:
        for _ in range(TERMINALS_MAX):
            stack.enter_context(sit(server, session))
        with pytest.raises(InvalidStatus) as refused:
            stack.enter_context(sit(server, session))
        assert refused.value.response.status_code == 412
        assert b"terminals" in (refused.value.response.body or b"")
    until(lambda: open_terminals(http, session) == 0)


def test_a_terminal_that_cannot_begin_says_why(own_server: Server) -> None:
    id = own_server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    why = {"kind": "stage", "stage": "terminal", "errno": 1, "error": "not permitted"}
    own_server.refuse(start=why)
    with sit(own_server, id) as websocket:
        error, end = to_the_end(websocket)
    assert error["type"] == "error" and "stage terminal" in error["data"]
    assert (end["type"], end["exitCode"]) == ("end", None)


def test_usage_of_a_terminal_counts(connect: Connect, http: httpx.Client, session: str) -> None:
    with connect() as websocket:
        type_(websocket, b"exit 0\n")
        to_the_end(websocket)
    stats = http.delete(f"/session/{session}").json()["stats"]
    assert stats["runs"] == 1


def test_an_open_terminal_keeps_its_session(start: Callable[..., Server]) -> None:
    server = start(idle_s=3600)
    id = server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    with sit(server, id) as websocket:
        let_pass(server.base, 7200)
        server.sweep()
        type_(websocket, b"x")
        assert shown(websocket, 1) == b"x"


def test_a_reader_that_stops_costs_bounded_memory(own_server: Server) -> None:
    id = own_server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    with sit(own_server, id) as websocket:
        type_(websocket, b"flood 16000000\n")
        before = memory(own_server)
        begin = shown(websocket, 1)  # the flood has begun
        own_server.rest()  # nothing is read, but for what the library and the kernel hold
        assert memory(own_server) - before < 8 << 20
        whole = 16_000_000 // 32768 * 32768
        shown(websocket, whole - len(begin))  # unread output would delay the end for a minute


def test_shutdown_of_the_daemon_closes_terminals_as_a_restart(own_server: Server) -> None:
    id = own_server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    with sit(own_server, id) as websocket:
        type_(websocket, b"x")
        shown(websocket, 1)
        assert own_server.stop() == 0
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd and closed.value.rcvd.code == 1012
    assert "Traceback" not in own_server.log()
