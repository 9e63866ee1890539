"""Server-sent events of the life of sessions: order, ends, owners, listeners that do not listen."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from sandboxd.api.routes import events
from sandboxd.api.sessions.event_bus import (
    LATE_MAX,
    LISTENERS_MAX,
    EventBus,
    EventListener,
    events_of,
)
from sandboxd.errors import QuotaExceeded
from sandboxd.store.sessions import SessionRow

from ..http_clients import unix_client
from ..waiting import PATIENCE_S, until
from .bad_requests import assert_problem
from .conftest import USER, Server

Events = list[tuple[str, dict[str, Any]]]

BIRTH = [
    "session_enqueued", "session_scheduled", "kernel_preparing", "kernel_creating",
    "session_preparing", "kernel_started", "session_started",
]  # fmt: skip
BORN = ["kernel_started", "session_started"]
"""The first events in the stream of a running session."""

DEATH = ["kernel_terminating", "session_terminating", "kernel_terminated", "session_terminated"]


@contextmanager
def listening(client: httpx.Client, **query: str) -> Iterator[Iterator[str]]:
    """An open stream, its lines."""
    with client.stream("GET", "/events/session", params=query) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines).startswith(":")
        yield lines


def read_events(lines: Iterator[str]) -> Events:
    """Read to the end of the stream, as a client does."""
    received: Events = []
    name = ""
    for line in lines:
        field, colon, value = line.partition(": ")
        assert colon or not line, "clients split every line at a colon"
        if field == "event":
            name = value
        elif field == "data":
            received.append((name, json.loads(value)))
    return received


def names(received: Events) -> list[str]:
    return [name for name, _ in received]


def make(client: httpx.Client, name: str = "", **more: Any) -> str:
    answer = client.post("/session", json={"image": "c", "name": name or None, **more})
    assert answer.status_code == 201, answer.text
    id: str = answer.json()["sessionId"]
    return id


@pytest.mark.parametrize("key", ["sessionName", "sessionId"])
def test_the_stream_of_a_session_ends_with_it(http: httpx.Client, key: str) -> None:
    id = make(http, "eventful")
    with listening(http, **{key: id if key == "sessionId" else "eventful"}) as lines:
        http.delete("/session/eventful")
        received = read_events(lines)
    assert names(received) == [*BORN, *DEATH, "server_close"]
    assert received[3][1] == {
        "reason": "user-requested", "sessionName": "eventful", "ownerAccessKey": USER,
        "sessionId": id, "exitCode": None,
    }  # fmt: skip
    assert received[2][1]["kernelId"] == id and received[-1][1] == {}


@pytest.mark.parametrize("key", ["sessionName", "sessionId"])
def test_the_stream_of_a_session_that_is_ending_has_its_end(own_server: Server, key: str) -> None:
    client = own_server.client
    id = make(client, "ending")
    own_server.refuse(release={"waits": True})
    ending = threading.Thread(target=client.delete, args=("/session/ending",))
    ending.start()
    until((own_server.base / "waits").exists)
    with listening(client, **{key: id if key == "sessionId" else "ending"}) as lines:
        own_server.refuse()  # the session ends while the listener waits for it
        assert names(read_events(lines))[-2:] == ["session_terminated", "server_close"]
    ending.join()


def test_a_stream_waits_for_a_session_that_does_not_exist_yet(http: httpx.Client) -> None:
    """On a busy machine the session may exist before the listener or appear too late for it: then
    another one is made."""
    seen: list[list[str]] = []

    def whole_life() -> bool:
        name = f"expected-{len(seen)}"
        making = threading.Timer(0.3, make, (http, name))
        making.start()
        with http.stream("GET", "/events/session", params={"sessionName": name}) as answer:
            making.join()
            http.delete(f"/session/{name}")
            seen.append(names(read_events(answer.iter_lines())) if answer.is_success else [])
        return seen[-1] == [*BIRTH, *DEATH, "server_close"]

    until(whole_life, why=lambda: seen)


@pytest.mark.parametrize(
    ("scope", "prefixes"),
    [("*", ("session", "kernel")), ("session", ("session",)), ("kernel", ("kernel",)),
     ("session,kernel", ("session", "kernel"))],
)  # fmt: skip
def test_the_stream_of_all_sessions_has_the_whole_life_and_ends_with_the_server(
    own_server: Server, scope: str, prefixes: tuple[str, ...]
) -> None:
    with listening(own_server.client, sessionName="*", scope=scope) as lines:
        with unix_client(own_server.path) as other:
            id = make(other, "alive")
            other.delete(f"/session/{id}")
        own_server.process.terminate()
        received = read_events(lines)
    expected = [name for name in [*BIRTH, *DEATH] if name.startswith(prefixes)]
    assert names(received) == [*expected, "server_close"]


@pytest.mark.parametrize(("command", "name", "code"), [
    ("out x", "session_success", 0), ("exit 3", "session_failure", 3),
])  # fmt: skip
def test_the_result_of_a_batch_session_is_in_streams_that_begin_before_or_after_it(
    http: httpx.Client, command: str, name: str, code: int
) -> None:
    id = make(http, type="batch", startupCommand=f"sleep 0.5\n{command}")
    later: list[Events] = []

    def delete() -> None:
        with listening(http, sessionId=id) as lines:
            http.delete(f"/session/{id}")
            later.append(read_events(lines))

    with listening(http, sessionId=id, scope="session") as lines:
        first = read_events(_until(lines, name))
        assert (first[-1][0], first[-1][1]["exitCode"]) == (name, code)
        delete()
        assert names(read_events(lines))[-1] == "server_close"
    assert names(later[0]) == [*BORN, name, *DEATH, "server_close"]
    with listening(http, sessionId=id) as lines:  # when all is over
        assert names(read_events(lines)) == [*BORN, name, "kernel_terminated", "session_terminated",
                                      "server_close"]  # fmt: skip


def _until(lines: Iterator[str], name: str) -> Iterator[str]:
    """The lines up to those of the event called so."""
    for line in lines:
        yield line
        if line == f"event: {name}":
            yield next(lines)
            return


def test_a_session_that_cannot_be_created_has_an_event_cancelled(own_server: Server) -> None:
    own_server.refuse(lease={"kind": "stage", "stage": "mounts", "error": "no"})
    with listening(own_server.client) as lines:
        with unix_client(own_server.path) as other:
            assert other.post("/session", json={"image": "c"}).status_code == 503
        own_server.process.terminate()
        received = names(read_events(lines))
    assert received[-3:] == ["kernel_cancelled", "session_cancelled", "server_close"]


def test_owners_see_their_own_sessions_only(own_server: Server) -> None:
    mine, other = own_server.keypair(), own_server.keypair()
    seen: Events = []

    def listen_to_all() -> None:
        with own_server.signed(mine) as client, listening(client) as lines:
            ready.set()
            seen.extend(read_events(lines))

    ready = threading.Event()
    thread = threading.Thread(target=listen_to_all)
    thread.start()
    assert ready.wait(PATIENCE_S)
    with own_server.signed(other) as client:
        make(client, "theirs")
    with own_server.signed(mine) as client:
        make(client, "ours")
        refused = client.get("/events/session", params={"sessionName": "theirs"})
        assert_problem(refused, 404, "/object-not-found")
    own_server.process.terminate()
    thread.join()
    assert {data["sessionName"] for name, data in seen if name != "server_close"} == {"ours"}


@pytest.mark.parametrize(
    ("query", "status"), [({"scope": "agent"}, 400), ({"sessionName": "nobody"}, 404)]
)
def test_a_stream_of_an_unknown_session_or_scope_is_refused(
    http: httpx.Client, query: dict[str, str], status: int
) -> None:
    answer = http.get("/events/session", params=query)
    assert_problem(answer, status)


ROW = SessionRow("id", "name", "owner", "c", "c", 0.0)


def test_a_listener_that_does_not_listen_is_dropped() -> None:
    async def go() -> None:
        source = EventBus()
        with source.listening("owner", None) as listener:
            for _ in range(2 * LATE_MAX):
                source.publish("success", ROW)
            count = 0
            while await listener.next():
                count += 1
            assert count == LATE_MAX

    asyncio.run(go())


def test_there_is_a_limit_to_listeners_of_one_owner() -> None:
    source = EventBus()
    held = [source.listening("owner", None) for _ in range(LISTENERS_MAX)]
    for one in held:
        one.__enter__()
    with pytest.raises(QuotaExceeded), source.listening("owner", None):
        pass
    with source.listening("another", None):
        pass
    held[0].__exit__(None, None, None)
    with source.listening("owner", None):
        pass


def test_a_silent_stream_sends_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)

    async def go() -> list[bytes]:
        listener, texts = EventListener("owner", None), []
        async for text in events._text(listener, ("session",), []):
            texts.append(text)
            if len(texts) == 5:
                listener.end()
        return texts

    first, *beats, last = asyncio.run(go())
    assert first.startswith(b":") and len(beats) == 4
    assert set(beats) == {b": heartbeat\n\n"} and last == b"event: server_close\ndata: {}\n\n"


def test_events_have_all_their_keys() -> None:
    keys = {"reason", "sessionName", "ownerAccessKey", "sessionId", "exitCode"}
    kernel, session = events_of("started", ROW)
    assert set(kernel.data) == keys | {"kernelId", "clusterRole", "clusterIdx"}
    assert set(session.data) == keys


def test_a_listener_that_closes_its_half_of_the_connection_is_gone_at_once(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(events.HEARTBEAT_S / 2)
        sock.connect(server.path)
        sock.sendall(b"GET /events/session HTTP/1.1\r\nHost: x\r\n\r\n")
        while b": this is a stream" not in sock.recv(65536):
            pass
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(65536) == b""
