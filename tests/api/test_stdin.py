"""Standard input through PUT /session/{ref}/stdin: any bytes, any size, and what misuse gets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..each_case import each_case
from ..waiting import until
from .bad_requests import assert_problem
from .conftest import Server

Result = dict[str, Any]
Call = Callable[..., Result]

BYTES = bytes(range(256)) * 1_600 + b"\xff"


@pytest.fixture
def put(http: httpx.Client, session: str) -> Callable[..., httpx.Response]:
    """Streams input into a run."""

    def put(content: Any = b"", run: str = "r", **query: Any) -> httpx.Response:
        return http.put(
            f"/session/{session}/stdin", params={"runId": run, **query}, content=content
        )

    return put


Put = Callable[..., httpx.Response]


def begun(call: Call, exec: str, run: str = "r") -> Result:
    """The first result of a run whose client streams its input."""
    return call("batch", run, exec=exec, input="stream")


def output(call: Call, run: str = "r") -> bytes:
    """All bytes of standard output of a run, from its beginning to its end."""
    data, options = b"", {"live": True, "console": "base64", "input": "stream"}
    result = call("continue", run, offset=0, **options)
    while True:
        data += b"".join(base64.b64decode(d) for kind, d in result["console"] if kind == "stdout")
        assert result["offset"]["console"] == len(data), "the fake prints nothing else"
        if result["status"] == "finished":
            return data
        assert result["status"] != "waiting-input"
        result = call("continue", run, offset=result["offset"], **options)


def arrived(call: Call) -> bool:
    """Whether the program has printed some of its input."""
    place = {"console": 0, "steps": 2}
    result = call("continue", "r", offset=place, input="stream")
    return bool(result["offset"]["console"] > 0)


def pieces(data: bytes, size: int = 30_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("chunked", [False, True])
def test_bytes_of_any_value_and_number_reach_the_program_as_they_are(
    call: Call, put: Put, chunked: bool
) -> None:
    begun(call, "stdin")
    answer = put(pieces(BYTES) if chunked else BYTES)
    assert (answer.status_code, answer.json()) == (200, {"bytes": len(BYTES), "closed": False})
    assert hashlib.md5(output(call)).digest() == hashlib.md5(BYTES).digest()


def test_empty_body_is_an_empty_input(call: Call, put: Put) -> None:
    begun(call, "stdin")
    assert put().json() == {"bytes": 0, "closed": False}
    assert output(call) == b""


def test_input_waits_for_a_run_that_waits_for_its_turn(
    call: Call, put: Put, http: httpx.Client, session: str
) -> None:
    begun(call, "await go", "first")
    begun(call, "stdin")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(put, BYTES)
        http.post(f"/session/{session}/upload", files={"src": ("go", b"")}).raise_for_status()
        assert answer.result().json()["bytes"] == len(BYTES)
    assert output(call) == BYTES


def test_input_in_several_requests_goes_on_behind_the_bytes_that_were_taken(
    call: Call, put: Put
) -> None:
    begun(call, "stdin")
    taken = 0
    for piece in pieces(BYTES, 70_000):
        answer = put(piece, offset=taken, eof="false").json()
        taken += len(piece)
        assert answer == {"bytes": taken, "closed": False}
    assert put(eof="false").json()["bytes"] == taken, "an empty request asks for the place"
    assert put(offset=taken).json()["bytes"] == taken
    assert output(call) == BYTES


def test_client_whose_connection_broke_goes_on_at_the_right_byte(
    call: Call, put: Put, server: Server, session: str
) -> None:
    begun(call, "stdin")
    path = f"/session/{session}/stdin?runId=r"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(server.path)
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BYTES)}\r\n\r\n"
        sock.sendall(head.encode() + BYTES[:100_000])
        until(lambda: arrived(call))

    def taken() -> int | None:
        answer = put(eof="false")
        return answer.json()["bytes"] if answer.status_code == 200 else None

    place = until(taken)
    assert 0 < place <= 100_000
    assert put(BYTES[place:], offset=place).json()["bytes"] == len(BYTES)
    assert output(call) == BYTES


def test_run_and_offset_are_checked(call: Call, put: Put, http: httpx.Client, session: str) -> None:
    begun(call, "await never\nstdin")
    assert_problem(put(run="unknown"), 404)
    refusals = {"runId": put(run="")}
    for offset in ("-1", "x", "1.5", str(1 << 70), "\x00"):
        refusals[f"offset {offset}"] = put(offset=offset)
    refusals["eof"] = put(eof="perhaps")
    refusals["offset 5"] = put(b"abc", offset=5)
    for name, answer in refusals.items():
        assert_problem(answer, 400)
        assert name.split()[0] in answer.json()["data"], name
    assert "taken 0 bytes" in refusals["offset 5"].json()["data"]["offset"]
    assert http.put(f"/session/{session}/stdin?runId=%FF").status_code == 404


def test_run_whose_input_came_with_its_request_takes_no_stream(call: Call, put: Put) -> None:
    call("batch", "r", exec="await never", stdin="text")
    answer = put(b"more")
    assert_problem(answer, 400)
    assert "options.stdin" in answer.json()["msg"]


@contextlib.contextmanager
def streaming(server: Server, session: str) -> Iterator[tuple[threading.Event, list[Any]]]:
    """A client whose body does not end before the event is set; its answer."""
    ending, answers = threading.Event(), list[Any]()

    def body() -> Iterator[bytes]:
        yield b"first"
        ending.wait(60)

    def send() -> None:
        with server.new_client() as own:
            answers.append(own.put(f"/session/{session}/stdin?runId=r", content=body()))

    with ThreadPoolExecutor() as pool:
        pool.submit(send)
        try:
            yield ending, answers
        finally:
            ending.set()


def test_second_client_is_refused_unless_it_takes_over_by_an_offset(
    call: Call, put: Put, server: Server, session: str
) -> None:
    begun(call, "stdin")
    with streaming(server, session) as (ending, answers):
        until(lambda: arrived(call))
        busy = put(eof="false")
        assert_problem(busy, 400)
        assert "another request streams" in busy.json()["msg"]
        assert put(b" second", offset=5).json() == {"bytes": 12, "closed": False}
        ending.set()
        until(lambda: answers)
    assert_problem(answers[0], 400)
    assert "taken over" in answers[0].json()["msg"]
    assert output(call) == b"first second"


def test_nothing_can_be_sent_after_the_end_of_input(call: Call, put: Put) -> None:
    begun(call, "stdin\nawait never")
    assert put(b"all").json()["bytes"] == 3
    assert put(offset=3).json() == {"bytes": 3, "closed": False}, "a repeated end changes nothing"
    late = put(b"late", offset=3)
    assert_problem(late, 400)
    assert "ended" in late.json()["msg"]


def test_rest_is_dropped_when_the_program_reads_no_more(call: Call, put: Put) -> None:
    begun(call, "deafen\nawait never")
    assert put(pieces(BYTES)).json()["closed"] is True
    assert put(b"x", offset=99).json()["closed"] is True


def test_rest_is_dropped_when_the_run_is_over(call: Call, put: Put) -> None:
    begun(call, "stdin")
    put(b"abc")
    assert output(call) == b"abc"
    assert put(pieces(BYTES)).json() == {"bytes": 3, "closed": True}


def test_client_that_waits_for_its_user_is_answered_when_the_run_is_over(
    call: Call, server: Server, session: str
) -> None:
    begun(call, "exit 3")
    with streaming(server, session) as (ending, answers):
        until(lambda: call("continue", "r", input="stream")["status"] == "finished")
        ending.set()
        until(lambda: answers)
    assert answers[0].json()["closed"] is True


def test_destroyed_session_ends_the_stream(
    call: Call, server: Server, http: httpx.Client, session: str
) -> None:
    begun(call, "stdin")
    with streaming(server, session) as (ending, answers):
        until(lambda: arrived(call))
        assert http.delete(f"/session/{session}").status_code == 200
        ending.set()
        until(lambda: answers)
    assert answers[0].json()["closed"] is True


def test_client_that_streams_is_never_asked_for_input(call: Call, put: Put) -> None:
    results = [begun(call, "ask")]
    results += [call("continue", "r", input="stream") for _ in range(4)]
    assert results[-1]["status"] == "continued"
    logs = [data for r in results for kind, data in r["console"] if kind == "log"]
    assert [(level, "fflush" in text) for level, _, _, text in logs] == [("info", True)]
    assert call("continue", "r")["status"] == "waiting-input"
    call("input", "r", "answer")


@each_case("name", ["console", "input"])
@each_case("value", ["bytes", 1, ["text"], "\udcff"])
def test_unknown_form_of_a_call_is_refused_by_name(
    http: httpx.Client, lasting_session: str, name: str, value: Any
) -> None:
    body = {"mode": "batch", "options": {"exec": "out x", name: value}}
    answer = http.post(f"/session/{lasting_session}", content=json.dumps(body).encode())
    assert_problem(answer, 400)
    assert f"options.{name}" in answer.json()["data"] or "options" in answer.json()["data"]


def test_quick_clients_cost_no_descriptors(call: Call, put: Put, server: Server) -> None:
    begun(call, "stdin")
    put(b"x", eof="false")
    before = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    for number in range(20):
        put(b"x", offset=number + 1, eof="false")
    until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) <= before)
    put()
