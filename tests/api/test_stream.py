"""The WebSocket of a run: handshake, first frame, frames, input, and what leaving it does."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from ..waiting import PATIENCE_S, until
from .conftest import Server
from .test_drain import go

Frame = dict[str, Any]


@pytest.fixture
def connect(server: Server, session: str) -> Callable[[], Any]:
    """Opens the stream of the test's session."""
    return lambda: open_stream(server, session)


@contextmanager
def open_stream(server: Server, ref: str) -> Iterator[ClientConnection]:
    url = f"ws://sandboxd/stream/session/{ref}/execute"
    with unix_connect(server.path, url, max_size=1 << 20, close_timeout=5) as websocket:
        yield websocket


def begin(websocket: ClientConnection, **options: Any) -> None:
    """The first frame, as the official client sends it."""
    options = {"clean": None, "build": None, "buildLog": False, "exec": None} | options
    websocket.send(json.dumps({"code": "", "mode": "batch", "options": options}))


def frames(websocket: ClientConnection) -> Iterator[Frame]:
    """Every frame until the server closes."""
    try:
        while True:
            frame = json.loads(websocket.recv(timeout=PATIENCE_S))
            assert isinstance(frame["options"], dict) and "runId" not in frame
            yield frame
    except ConnectionClosed as closed:
        assert closed.rcvd and closed.rcvd.code == 1000


def rest(websocket: ClientConnection) -> tuple[list[Frame], int | None]:
    """The frames still to come, and the code that the connection is closed with."""
    received = []
    try:
        while True:
            received.append(json.loads(websocket.recv(timeout=PATIENCE_S)))
    except ConnectionClosed as closed:
        return received, closed.rcvd.code if closed.rcvd else None


def stdout(*received: Frame) -> str:
    return "".join(data for f in received for kind, data in f["console"] if kind == "stdout")


def statuses(received: list[Frame]) -> list[tuple[str, Any]]:
    return [(f["status"], f["exitCode"]) for f in received]


def test_the_stream_of_a_run_has_a_frame_for_each_step_and_closes(
    connect: Callable[[], Any],
) -> None:
    with connect() as websocket:
        begin(websocket, clean="*", build="out making", exec="out running\nerr oh\nexit 3")
        received = list(frames(websocket))
    assert [t for t in statuses(received) if t[0] != "continued"] == [
        ("clean-finished", 0), ("build-finished", 0), ("finished", 3),
    ]  # fmt: skip
    assert stdout(*received) == "making\nrunning\n"
    assert ["stderr", "oh\n"] in received[-1]["console"] and received[-1]["files"] == []


def test_output_comes_while_the_program_runs(server: Server, session: str) -> None:
    with open_stream(server, session) as websocket:
        begin(websocket, exec="out early\nawait go\nout late")
        while "early\n" not in stdout(json.loads(websocket.recv(timeout=PATIENCE_S))):
            pass  # the program waits until this has come
        go(server.client, session)
        assert stdout(*frames(websocket)) == "late\n"


def test_continuous_output_comes_in_five_frames_a_second(connect: Callable[[], Any]) -> None:
    with connect() as websocket:
        began = time.monotonic()
        begin(websocket, exec="\n".join("out x\nsleep 0.02" for _ in range(100)))
        received = list(frames(websocket))
    most = 5 * (time.monotonic() - began) + 4  # the program goes on for two seconds at least
    assert 4 <= sum(f["status"] == "continued" for f in received) <= most
    assert stdout(*received) == "x\n" * 100


def test_input_is_asked_for_once_and_taken_from_text_frames(connect: Callable[[], Any]) -> None:
    with connect() as websocket:
        begin(websocket, exec="out name?\nask\nask")
        prompts, last = [], []
        for frame in frames(websocket):
            if frame["status"] == "waiting-input":
                prompts.append(frame)
                websocket.send(b"binary frames mean nothing")
                websocket.send("Ada" if len(prompts) == 1 else "Lovelace")
            last.append(frame)
    assert [f["options"] for f in prompts] == [{"is_password": False}] * 2
    assert stdout(*last) == "name?\ngot 'Ada\\n'\ngot 'Lovelace\\n'\n"


def test_the_stream_of_a_run_over_its_time_says_so_and_closes(connect: Callable[[], Any]) -> None:
    with connect() as websocket:
        begin(websocket, exec="out before\ntimeout")
        received = list(frames(websocket))
    assert statuses(received)[-1] == ("exec-timeout", None) and stdout(*received) == "before\n"


def test_new_files_of_the_output_directory_are_in_the_last_frame(
    connect: Callable[[], Any], http: httpx.Client
) -> None:
    with connect() as websocket:
        begin(websocket, exec="touch .output/x y.txt")
        *_, last = frames(websocket)
    assert [file["name"] for file in last["files"]] == ["x y.txt"]
    assert http.get(last["files"][0]["url"]).status_code == 200


def test_a_client_without_a_run_id_gets_a_frame_at_the_end_of_the_daemon(
    own_server: Server,
) -> None:
    http = own_server.client
    session = http.post("/session", json={"image": "c"}).json()["sessionId"]
    first = {"mode": "batch", "runId": "mine", "options": {"exec": "out x\nsleep 1"}}
    with open_stream(own_server, session) as unnamed, open_stream(own_server, session) as named:
        begin(unnamed, exec="out x\nsleep 60")
        assert "x\n" in stdout(*[json.loads(unnamed.recv(timeout=PATIENCE_S)) for _ in range(3)])
        named.send(json.dumps(first))
        until(lambda: http.get(f"/session/{session}").json()["sandbox"]["runs"]["queued"] == 1)
        assert own_server.stop() == 0
        last = [rest(websocket) for websocket in (unnamed, named)]
    assert [code for _, code in last] == [1012, 1012]
    said = last[0][0][-1]
    ((kind, item),) = said["console"]
    assert said["status"] == "server-restarting" and kind == "log" and "goes on" in item[3]
    assert all(frame["status"] == "continued" for frame in last[1][0])


def test_the_stream_of_a_run_that_cannot_start_ends_with_the_reason(own_server: Server) -> None:
    session = own_server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    why = {"kind": "stage", "stage": "seccomp", "errno": 1, "error": "not permitted"}
    own_server.refuse(start=why)
    with open_stream(own_server, session) as websocket:
        begin(websocket, exec="out x")
        (only,) = frames(websocket)
    assert statuses([only]) == [("finished", -1)]
    assert only["console"][0][0] == "log" and "seccomp" in only["console"][0][1][3]


@pytest.mark.parametrize(
    "first",
    [
        "", "x", "[]", "null", "{", '{"mode": 5}', "{}", "[" * 20_000,
        '{"mode": "query", "code": "print(1)", "options": {}}',
        '{"mode": "continue", "code": ""}',
        '{"mode": "batch", "code": "print(1)", "options": {}}',
        '{"mode": "batch", "code": "", "options": []}',
        '{"mode": "batch", "code": "", "options": {"exec": 5}}',
        '{"mode": "batch", "code": "", "options": {"timeout": {"exec": "long"}}}',
    ],
)  # fmt: skip
def test_a_first_frame_that_requests_no_run_is_refused_with_the_reason(
    connect: Callable[[], Any], first: str
) -> None:
    with connect() as websocket:
        websocket.send(b"ignored")
        websocket.send(first)
        answer = json.loads(websocket.recv(timeout=PATIENCE_S))
        assert answer["status"] == "error" and answer["msg"]
        assert [(kind, item[3]) for kind, item in answer["console"]] == [("log", answer["msg"])]
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=PATIENCE_S)


def test_a_second_run_waits_for_its_turn(connect: Callable[[], Any]) -> None:
    with connect() as one, connect() as two:
        begin(one, exec="sleep 0.5\nout one")
        begin(two, exec="out two")
        second = list(frames(two))
        assert stdout(*second) == "two\n"
        assert stdout(*frames(one)) == "one\n"


def test_a_client_that_leaves_interrupts_its_run(
    connect: Callable[[], Any], call: Callable[..., Frame]
) -> None:
    with connect() as websocket:
        begin(websocket, exec="out begun\nsleep 600")
        while "begun" not in stdout(json.loads(websocket.recv(timeout=PATIENCE_S))):
            pass
    until(lambda: call("batch", "next", exec="out free")["status"] == "clean-finished")


def test_a_connection_that_is_cut_interrupts_its_run_too(
    connect: Callable[[], Any], call: Callable[..., Frame]
) -> None:
    with connect() as websocket:
        begin(websocket, exec="sleep 600")
        websocket.recv(timeout=PATIENCE_S)
        websocket.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: call("batch", "next", exec="out free")["status"] == "clean-finished")


def test_a_session_that_is_deleted_ends_its_streams(
    connect: Callable[[], Any], http: httpx.Client, session: str
) -> None:
    with connect() as websocket:
        begin(websocket, exec="sleep 20")
        websocket.recv(timeout=PATIENCE_S)
        assert http.delete(f"/session/{session}").status_code == 200
        *_, last = frames(websocket)
    assert statuses([last]) == [("finished", 130)]


def test_a_reader_that_stops_costs_one_frame_and_finds_the_rest(server: Server) -> None:
    session = server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    with open_stream(server, session) as websocket:
        begin(websocket, exec="out begin\nflood 8000000\nsleep 1\nout end")
        before = memory(server)
        server.rest()  # nothing is read, but for what the library and the kernel hold
        assert memory(server) - before < 8 << 20
        received = list(frames(websocket))
    assert received[-1]["status"] == "finished" and stdout(received[-1]).endswith("end\n")
    words = [data[3] for f in received for kind, data in f["console"] if kind == "log"]
    assert any("dropped here" in word for word in words), "the fake spool keeps less"
    server.client.delete(f"/session/{session}")


def memory(server: Server) -> int:
    """Bytes of the server's resident memory."""
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize(
    ("path", "status"),
    [("/stream/session/nowhere/execute", 404), ("/session", 404), ("/nowhere", 404)],
)
def test_a_refused_handshake_is_a_plain_problem_document(
    server: Server, path: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        unix_connect(server.path, f"ws://sandboxd{path}")
    response = refused.value.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body or b"")["title"]
    assert "completing handshake" not in server.log(), "that is nothing for the log"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Sec-WebSocket-Version": "12"}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": ""}, 400),
        ({"X-Long": "x" * 20_000}, 400),
        ({"X-Longer": "x" * 70_000}, 431),
        ({f"X-{number}": "x" for number in range(300)}, 431),
    ],
    ids=["version", "key", "no key", "long", "longer", "many"],
)
def test_a_handshake_that_breaks_the_rules_is_a_bad_request(
    http: httpx.Client, session: str, change: dict[str, str], status: int
) -> None:
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    } | change  # fmt: skip
    answer = http.get(f"/stream/session/{session}/execute", headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_message_that_is_too_large_ends_the_connection(connect: Callable[[], Any]) -> None:
    with connect() as websocket, pytest.raises(ConnectionClosed):
        websocket.send("x" * (3 << 20))
        websocket.recv(timeout=PATIENCE_S)


def test_a_run_with_a_name_outlives_its_connection_and_is_taken_up_where_its_client_is(
    server: Server, session: str
) -> None:
    script = "out one\nawait go\nout two\nexit 3"
    first = {"code": "", "mode": "batch", "runId": "mine", "options": {"exec": script}}
    with open_stream(server, session) as websocket:
        websocket.send(json.dumps(first))
        seen: list[Frame] = []
        while not any(frame["console"] for frame in seen):
            seen.append(json.loads(websocket.recv(timeout=PATIENCE_S)))
    offset = seen[-1]["offset"]
    assert offset["console"] == len("one\n")
    go(server.client, session)
    for place, printed in ((offset, "two\n"), (0, "one\ntwo\n")):
        again = {"code": "", "mode": "continue", "runId": "mine", "options": {"offset": place}}
        with open_stream(server, session) as websocket:
            websocket.send(json.dumps(again))
            received = list(frames(websocket))
        text = "".join(data for frame in received for kind, data in frame["console"])
        assert (text, received[-1]["status"], received[-1]["exitCode"]) == (printed, "finished", 3)


def test_frames_in_base64_together_have_exactly_the_bytes_behind_an_offset(
    server: Server, session: str
) -> None:
    call = {"mode": "batch", "runId": "r", "options": {"exec": "flood 300000\nout end"}}
    url = f"/session/{session}"
    while server.client.post(url, json=call).json()["result"]["status"] != "finished":
        call = {"mode": "continue", "runId": "r"}
    whole = b"x" * (300_000 // 8192 * 8192) + b"end\n"
    for place in (0, 1, 131_071, 131_072, 200_000, len(whole) - 1, len(whole)):
        options = {"offset": {"console": place, "steps": 3}, "console": "base64"}
        with open_stream(server, session) as websocket:
            websocket.send(json.dumps({"mode": "continue", "runId": "r", "options": options}))
            received, code = rest(websocket)
        data = [base64.b64decode(d) for frame in received for _, d in frame["console"]]
        assert b"".join(data) == whole[place:] and code == 1000
        assert received[-1]["offset"]["console"] == len(whole)


def test_stream_whose_client_streams_its_input_elsewhere_is_never_asked_for_it(
    server: Server, session: str
) -> None:
    with open_stream(server, session) as websocket:
        options = {"exec": "stdin\nexit 3", "input": "stream"}
        websocket.send(json.dumps({"mode": "batch", "runId": "r", "options": options}))
        assert json.loads(websocket.recv(timeout=PATIENCE_S))["status"] == "clean-finished"
        answer = server.client.put(f"/session/{session}/stdin?runId=r", content=b"input")
        assert answer.json() == {"bytes": 5, "closed": False}
        received, _ = rest(websocket)
    assert "waiting-input" not in [frame["status"] for frame in received]
    assert received[-1]["exitCode"] == 3
    assert "".join(d for f in received for k, d in f["console"] if k == "stdout") == "input"
