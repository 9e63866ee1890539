"""POST /run with real jails: builds, cases, limits, and nothing left when it ends in any way."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxd.host import procfs

from ..processes import titles
from ..waiting import until
from .daemon import Daemon, running
from .own_leaks import COUNT, first_uid

Result = dict[str, Any]

CONFIG = "[scratch]\nsize = 134217728\n"
"""Small: a test fills the larger part of it, which other tests would wait for as well (sync(2))."""

C = r"""
#include <stdio.h>
int main(void) { int a, b; scanf("%d %d", &a, &b); printf("%d\n", a + b); return 0; }
"""
PYTHON = "import sys\nprint(sum(map(int, sys.stdin.read().split())))\n"
SUMS = [{"name": f"{n}", "stdin": f"{n} 2\n", "expected": f"{n + 2}\n"} for n in range(4)]


def slots(daemon: Daemon) -> list[str]:
    """The directories of slots that a session has."""
    return [str(path) for path in daemon.state.glob("slots/*/session")]


@pytest.fixture
def run(daemon: Daemon, http: httpx.Client) -> Iterator[Any]:
    """One request, its response; nothing of it is left afterwards."""

    def run(image: str = "c", **body: Any) -> Result:
        answer = http.post("/run", content=json.dumps({"image": image, **body}))
        assert answer.status_code == 200, answer.text
        result: Result = answer.json()
        return result

    yield run
    assert slots(daemon) == []
    report = http.get("/admin/leaks").json()
    assert (report["leaks"], report["slots"]) == ([], [])


def text(result: Result, stream: str = "stdout") -> str:
    """The text of a stream."""
    return "".join(data for kind, data in result["console"] if kind == stream)


@pytest.mark.parametrize(
    ("image", "name", "source", "options"),
    [
        ("c", "main.c", C, {"build": "*", "exec": "*"}),
        ("python", "main.py", PYTHON, {"exec": "python3 main.py"}),
    ],
)
def test_program_is_judged_by_its_cases(
    run: Any, image: str, name: str, source: str, options: Result
) -> None:
    wrong = {"name": "wrong", "stdin": "1 1", "expected": "3"}
    answer = run(
        image, files=[{"name": name, "content": source}], options=options, cases=[*SUMS, wrong]
    )
    assert [one["passed"] for one in answer["cases"]] == [True] * 4 + [False]
    assert [text(one) for one in answer["cases"]] == ["2\n", "3\n", "4\n", "5\n", "2\n"]
    assert all(one["verdict"]["usage"]["wall_ms"] >= 0 for one in answer["cases"])


def test_each_case_has_its_own_limits_and_verdict(run: Any) -> None:
    program = (
        "case $(cat) in loop) while :; do :; done;; sleep) sleep 60;; "
        "big) head -c 5M /dev/zero;; *) echo ok;; esac"
    )
    answer = run(
        options={"exec": program},
        cases=[
            {"stdin": "loop", "limits": {"cpu_s": 0.3, "grace_s": 0}},
            {"stdin": "sleep", "limits": {"wall_s": 0.3, "grace_s": 0}},
            {"stdin": "big", "limits": {"output_end": "64k"}},
            {"stdin": "fine"},
        ],
    )
    verdicts = [(one["verdict"]["outcome"], one["verdict"]["limit"]) for one in answer["cases"]]
    assert verdicts == [
        ("limit", "cpu_s"), ("limit", "wall_s"), ("limit", "output"), ("success", None),
    ]  # fmt: skip
    assert [one["status"] for one in answer["cases"][:2]] == ["exec-timeout"] * 2
    assert text(answer["cases"][3]) == "ok\n"


SPOIL = r"""
cat input /tmp/note built/x 2>&1; ls -A . /tmp | sort | tr '\n' ' '
stat -c '%a %Y %s' input built . ; ls -A /home/work/.. | sort | tr '\n' ' '
echo spoiled > input; echo spoiled > /tmp/note; rm -rf built; echo "$RANDOM" > answer
mkdir -p a/b/c
touch -d @1000000000 input; ln -s / root; cp /bin/true exe
: > /tmp/left; echo x > .hidden; chmod 000 .
"""


def test_each_case_begins_with_exactly_the_tree_that_the_build_left(run: Any) -> None:
    answer = run(
        files=[{"name": "input", "content": "of the build\n"}],
        options={
            "build": (
                "mkdir built; echo x > built/x; echo note > /tmp/note; touch -d @5 input built ."
            ),
            "exec": SPOIL,
        },
        cases=[{}, {}, {}, {}],
    )
    first, *others = [text(one) for one in answer["cases"]]
    assert first.startswith("of the build\nnote\nx\n") and "644 5" in first
    assert others == [first] * 3


def test_program_cannot_reach_the_saved_tree(run: Any) -> None:
    """It has the uid of the helper, and looks for the copy wherever it can look."""
    search = (
        "find / -xdev -name the-only-copy 2>/dev/null; "
        "find /proc /tmp /home -name the-only-copy 2>/dev/null; rm -f the-only-copy"
    )
    answer = run(
        files=[{"name": "the-only-copy", "content": "x"}],
        options={"exec": search},
        cases=[{}, {}],
    )
    for case in answer["cases"]:
        places = {line for line in text(case).splitlines() if "/" in line}
        assert places == {"/home/work/the-only-copy"}


def test_tree_without_room_for_its_copy_is_refused_with_the_reason(
    daemon: Daemon, http: httpx.Client
) -> None:
    fill = "head -c $(($(stat -f -c '%a * %S' .) * 6 / 10)) /dev/urandom > large"
    body = {"image": "c", "options": {"build": fill, "exec": "true"}, "cases": [{}, {}]}
    answer = http.post("/run", json=body)
    assert answer.status_code == 412 and "no room for the copy" in answer.json()["msg"]
    assert slots(daemon) == []
    body["cases"] = [{}]
    assert http.post("/run", json=body).status_code == 200, "one case needs no copy"


def test_files_come_back_and_those_that_cannot_have_a_reason(run: Any) -> None:
    program = (
        "printf '\\377\\0' > raw; head -c 5M /dev/zero > five; head -c 4M /dev/zero > four; "
        "mkfifo fifo; ln -s /etc/passwd out; ln -s raw in; mkdir dir"
    )
    names = ["raw", "in", "five", "four", "fifo", "out", "dir", "none"]
    files = run(options={"exec": program}, get=names)["result"]["files"]
    assert (
        base64.b64decode(files["raw"]["content"])
        == b"\xff\0"
        == base64.b64decode(files["in"]["content"])
    )
    assert files["five"]["size"] == 5 << 20
    assert "too large" in files["four"]["error"]
    assert {name for name in names if "error" in files[name]} == {
        "four",
        "fifo",
        "out",
        "dir",
        "none",
    }


def test_output_beyond_the_bound_is_cut_and_the_verdict_is_whole(run: Any) -> None:
    result = run(
        options={"build": "head -c 600000 /dev/zero | tr '\\0' b", "exec": "echo e; exit 4"}
    )["result"]
    assert result["cut"] and result["exitCode"] == 4 and text(result) == "b" * 524288
    assert [one["exitCode"] for one in result["steps"]] == [0, 0, 4]
    assert [one["items"] for one in result["steps"]] == [0, 1, 0]
    raw = run(console="base64", options={"exec": "printf '\\377'"})["result"]["console"]
    assert raw == [["stdout", base64.b64encode(b"\xff").decode()]]


def test_form_with_an_archive_is_built(http: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(C)
    subprocess.run(["tar", "-czf", tmp_path / "t.tgz", "-C", tmp_path, "main.c"], check=True)
    request = {"image": "c", "options": {"build": "*", "exec": "*", "stdin": "20 22"}}
    parts: list[Any] = [
        ("run", (None, json.dumps(request))),
        ("archive", ("t.tgz", (tmp_path / "t.tgz").read_bytes())),
    ]
    assert text(http.post("/run", files=parts).json()["result"]) == "42\n"


def hang_up(daemon: Daemon, body: Result, begun: Any) -> None:
    """Send a request, and close the connection when `begun` is true."""
    host, port = daemon.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = f"POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(head.encode() + content)
        until(begun)


def shims() -> list[int]:
    """The shims of the daemons of these tests."""
    uids = {pid: procfs.status(pid, "Uid")[0].split() for pid in titles("sandboxd: shim")}
    return [pid for pid, ids in uids.items() if ids and 0 <= int(ids[0]) - first_uid() < COUNT]


@pytest.mark.parametrize("cases", [[], [{}, {}]])
def test_client_that_hangs_up_ends_the_program(daemon: Daemon, cases: list[Result]) -> None:
    body = {"image": "c", "options": {"exec": "sleep 600"}, "cases": cases}
    hang_up(daemon, body, lambda: slots(daemon) and shims())
    until(lambda: not slots(daemon) and not shims())


def test_client_that_hangs_up_in_its_form_leaves_nothing(daemon: Daemon) -> None:
    host, port = daemon.url.removeprefix("http://").split(":")
    head = (
        "POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=B\r\n\r\n"
        '--B\r\nContent-Disposition: form-data; name="run"\r\n\r\n'
        '{"image": "c", "options": {"exec": "true"}}\r\n'
        '--B\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nxxx'
    )
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(head.encode())
        until(lambda: slots(daemon))
    until(lambda: not slots(daemon))


@pytest.mark.usefixtures("lasting")
@pytest.mark.parametrize("victim", ["api", "warden", "both"])
def test_daemon_that_is_killed_leaves_nothing_after_the_next_start(
    daemon: Daemon, victim: str
) -> None:
    body = {"image": "c", "options": {"exec": "sleep 600"}, "cases": [{}, {}]}

    def send() -> None:
        with daemon.client() as http, contextlib.suppress(httpx.TransportError):
            http.post("/run", json=body)

    client = threading.Thread(target=send)
    client.start()
    until(lambda: slots(daemon) and shims())
    daemon.end(victim)
    client.join()
    daemon.start()
    with daemon.client() as http:
        assert http.get("/session/_/match?id=run-").json()["matches"] == []
        until(lambda: not shims())
        assert slots(daemon) == []
        # On a busy disk, a process of the killed daemon is still in the kernel for a while, and
        # holds the image that it was making.
        until(lambda: http.get("/admin/leaks").json()["leaks"] == [])
        assert http.get("/admin/leaks").json()["slots"] == []


def test_daemon_that_is_stopped_refuses_the_request_and_leaves_nothing(folder: Path) -> None:
    with running(folder) as daemon:
        answers = list[httpx.Response]()

        def send() -> None:
            with daemon.client() as http:
                answers.append(
                    http.post("/run", json={"image": "c", "options": {"exec": "sleep 600"}})
                )

        client = threading.Thread(target=send)
        client.start()
        until(lambda: slots(daemon) and shims())
        os.kill(daemon.process.pid, signal.SIGTERM)  # type: ignore[union-attr]  # it runs
        client.join()
        assert answers[0].status_code == 503
        until(lambda: not slots(daemon))
        daemon.process.wait()  # type: ignore[union-attr]  # it runs
        daemon.process.stdout.close()  # type: ignore[union-attr]  # it has one
        daemon.process = None


def test_no_case_runs_after_a_build_that_fails(run: Any) -> None:
    answer = run(options={"build": "echo wrong; exit 4", "exec": "echo ran"}, cases=[{}, {}])
    assert answer["cases"] == []
    steps = {step["step"]: step["exitCode"] for step in answer["result"]["steps"]}
    assert steps["build"] == 4
    assert ["stdout", "wrong\n"] in answer["result"]["console"]
