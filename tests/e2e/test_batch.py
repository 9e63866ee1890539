"""Batch runs over HTTP, in real jails: statuses, exit codes, console, queue, input."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..waiting import PATIENCE_S, until
from .daemon import Daemon, follow, run

Make = Callable[..., str]
UNTIL_GO = "until [ -e go ]; do sleep 0.1; done"


def test_c_program_with_defaults(http: httpx.Client, session: Make) -> None:
    id = session("index.docker.io/lablup/c:latest")
    source = b'#include "sub/a b.h"\n#include <math.h>\nint main(void) { return (int)sqrt(N); }\n'
    header = b"#define N 49\n"
    files = [("src", ("main.c", source)), ("src", ("sub%2Fa%20b.h", header))]
    assert http.post(f"/session/{id}/upload", files=files).status_code == 204
    outcome = run(http, id, {"clean": "*", "build": "*", "exec": "*"})
    assert outcome.exits == [0, 0, 7]


def test_python_goes_by_the_name_that_everybody_types(http: httpx.Client, session: Make) -> None:
    program = "import sys; print(sys.version_info[0], 6 * 7)"
    outcome = run(http, session("python:3.6-ubuntu18.04"), {"exec": f"python -c '{program}'"})
    assert outcome.text("stdout") == "3 42\n"


def test_program_killed_by_a_signal(http: httpx.Client, session: Make) -> None:
    outcome = run(http, session(), {"exec": "kill -SEGV $$"})
    assert outcome.exits[-1] == 139
    assert outcome.results[-1]["verdict"]["signal"] == "SIGSEGV"


def test_time_limit_ends_the_run_and_the_session_stays_usable(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    outcome = run(http, id, {"exec": "echo begin; sleep 60", "timeout": 5})
    assert outcome.statuses[-1] == "exec-timeout"
    assert outcome.results[-1]["exitCode"] is None
    assert outcome.results[-1]["verdict"]["limit"] == "wall_s"
    assert outcome.text("stdout") == "begin\n"
    assert run(http, id, {"exec": "echo again"}).text("stdout") == "again\n"


def test_limit_above_the_servers_own_is_lowered_and_reported(
    http: httpx.Client, session: Make
) -> None:
    outcome = run(http, session(), {"exec": "true", "timeout": 1e6})
    assert outcome.results[-1]["clamped"] == ["exec.wall_s"]
    assert "wall_s" in outcome.text("log")


def test_memory_limit_is_named_as_the_cause(http: httpx.Client, session: Make) -> None:
    id = session(resources={"mem": "64m"})
    outcome = run(http, id, {"exec": "head -c 200M /dev/zero | tail"})
    assert outcome.exits[-1] == 137
    assert outcome.results[-1]["verdict"]["limit"] == "memory"
    assert outcome.results[-1]["verdict"]["oom"] is True


def test_call_returns_within_two_seconds_and_later_output_comes_later(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    call = {
        "mode": "batch",
        "runId": "r",
        "options": {"exec": f"echo a; {UNTIL_GO}; echo b"},
    }
    for _ in range(2):  # clean and build, which are skipped
        http.post(f"/session/{id}", json=call)
        call = {"mode": "continue", "runId": "r"}
    began = time.monotonic()
    result = http.post(f"/session/{id}", json=call).json()["result"]
    assert time.monotonic() - began > 1.9
    assert (result["status"], result["console"]) == ("continued", [["stdout", "a\n"]])
    http.post(f"/session/{id}/upload", files={"src": ("go", b"")}).raise_for_status()
    outcome = follow(http, id, {"code": ""} | call)
    assert (outcome.statuses, outcome.text("stdout")) == (["finished"], "b\n")


def runs(http: httpx.Client, id: str) -> int:
    """How many runs of the session are under way or wait."""
    state = http.get(f"/session/{id}").json()["sandbox"]["runs"]
    return int(state["active"] is not None) + int(state["queued"])


def test_overlapping_runs_queue_first_in_first_out(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()

    def one(name: str) -> None:
        with daemon.client() as http:
            command = f"{UNTIL_GO}; echo {name} >> order; echo {name}"
            assert run(http, id, {"exec": command}, name).text("stdout") == f"{name}\n"

    threads = []
    for number, name in enumerate(("first", "second", "third"), 1):
        threads.append(threading.Thread(target=one, args=(name,)))
        threads[-1].start()
        until(lambda: runs(http, id) == number)  # noqa: B023  # over before the next
    http.post(f"/session/{id}/upload", files={"src": ("go", b"")}).raise_for_status()
    for thread in threads:
        thread.join()
    order = http.get(f"/session/{id}/download_single?file=order").content
    assert order == b"first\nsecond\nthird\n"


def test_typed_answers_reach_the_program(http: httpx.Client, session: Make) -> None:
    id = session("python")
    program = "python3 -c \"n = input('name? '); print('hello', n); print(input('more? '))\""
    call: dict[str, Any] = {"mode": "batch", "runId": "r", "options": {"exec": program}}
    text, questions = "", 0
    while True:
        result = http.post(f"/session/{id}", json=call).json()["result"]
        text += "".join(data for kind, data in result["console"] if kind == "stdout")
        if result["status"] == "finished":
            break
        call = {"mode": "continue", "runId": "r"}
        if result["status"] == "waiting-input":
            assert result["options"] == {"is_password": False}
            assert text.endswith("? "), "the question comes before the waiting"
            questions += 1
            call = {"mode": "input", "runId": "r", "code": f"answer {questions}"}
    assert (questions, result["exitCode"]) == (2, 0)
    assert text == "name? hello answer 1\nmore? answer 2\n"


def test_client_that_never_answers_does_not_keep_the_run(http: httpx.Client, session: Make) -> None:
    outcome = run(http, session(), {"exec": "read x", "timeout": 5})
    assert "waiting-input" in outcome.statuses
    assert outcome.statuses[-1] == "exec-timeout"
    assert len(outcome.results) < 12, "a client that polls on is not answered at once for ever"


def test_flood_of_output_is_cut_and_the_cut_is_counted(http: httpx.Client, session: Make) -> None:
    outcome = run(http, session(), {"exec": "yes 123456789 | head -c 3000000"})
    assert outcome.results[-1]["exitCode"] == 0
    for result in outcome.results:
        assert sum(len(d) for k, d in result["console"] if k == "stdout") <= 524288
    assert "characters of stdout were cut" in outcome.text("log")
    length = len(outcome.text("stdout"))
    cut = sum(
        int(line.split()[0]) for line in outcome.text("log").splitlines() if "were cut" in line
    )
    assert length + cut == 3_000_000


def test_binary_output_is_valid_text(http: httpx.Client, session: Make) -> None:
    outcome = run(
        http, session(), {"exec": r"printf 'a\377\0b\342\202'; printf '\342\202\254' >&2"}
    )
    assert outcome.text("stdout") == "a�\0b�"
    assert outcome.text("stderr") == "€"


def test_program_has_standard_variables_and_those_of_session_and_run(
    http: httpx.Client, session: Make
) -> None:
    id = session(environ={"MINE": "session", "BOTH": "session"})
    outcome = run(http, id, {"exec": "env", "environ": {"BOTH": "run"}})
    environ = dict(line.split("=", 1) for line in outcome.text("stdout").splitlines())
    expected = {
        "TERM": "xterm", "LANG": "C.UTF-8", "SHELL": "/bin/bash", "USER": "work",
        "HOME": "/home/work", "MINE": "session", "BOTH": "run",
    }  # fmt: skip
    assert expected.items() <= environ.items()
    assert "of-the-daemon" not in outcome.text("stdout")


def test_new_files_in_output_are_listed_with_a_way_to_get_them(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    run(http, id, {"exec": "mkdir .output; echo old > .output/old"})
    time.sleep(0.1)
    outcome = run(http, id, {"exec": "echo fresh > '.output/a b.txt'"})
    files = outcome.results[-1]["files"]
    assert [file["name"] for file in files] == ["a b.txt"]
    assert http.get(files[0]["url"]).content == b"fresh\n"


def test_interrupt_is_a_ctrl_c(http: httpx.Client, session: Make) -> None:
    id = session()
    call = {
        "mode": "batch",
        "runId": "r",
        "options": {"exec": "trap 'exit 9' INT; echo ready; sleep 300 & wait"},
    }
    text = ""
    while "ready" not in text:
        result = http.post(f"/session/{id}", json=call).json()["result"]
        text += "".join(data for _, data in result["console"])
        call["mode"] = "continue"
    assert http.post(f"/session/{id}/interrupt").status_code == 204
    assert run(http, id, {}, "other").exits[-1] == 0
    again = http.post(f"/session/{id}", json={"mode": "continue", "runId": "r"})
    assert again.status_code == 200
    assert http.post(f"/session/{id}/interrupt").status_code == 204


@pytest.mark.parametrize("count", [12])
def test_sessions_run_side_by_side(daemon: Daemon, session: Make, count: int) -> None:
    ids = [session() for _ in range(count)]
    texts: dict[str, str] = {}

    def one(id: str) -> None:
        with daemon.client() as http:
            texts[id] = run(http, id, {"exec": f"echo {id}; id -u; sleep 0.2"}).text("stdout")

    threads = [threading.Thread(target=one, args=(id,)) for id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(texts[id].split()[0] == id for id in ids)
    assert len({texts[id].split()[1] for id in ids}) == count


def test_answer_whose_client_has_hung_up_goes_to_the_next_call(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    options = {"exec": f"{UNTIL_GO}; echo said; exit 3", "timeout": 600}
    call: dict[str, Any] = {"mode": "batch", "code": "", "runId": "r", "options": options}
    going = {"mode": "continue", "code": "", "runId": "r"}
    while http.post(f"/session/{id}", json=call).json()["result"]["status"] != "build-finished":
        call = going
    until(lambda: hung_up(daemon, id, json.dumps(going).encode()))
    http.post(f"/session/{id}/upload", files={"src": ("go", b"")}).raise_for_status()
    done = follow(http, id, going)
    assert (done.text("stdout"), done.exits[-1]) == ("said\n", 3)


def hung_up(daemon: Daemon, id: str, body: bytes) -> bool:
    """The server has seen the end of the client of a call, to which it has not responded before."""
    host, port = daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as sock:
        head = f"POST /session/{id} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        time.sleep(0.5)
        sock.shutdown(socket.SHUT_WR)  # all that a server sees of a client that has closed
        return sock.recv(65536) == b""
