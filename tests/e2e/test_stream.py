"""Runs over a WebSocket, with a real daemon and programs that print, ask, and do not end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from sandboxd.host import procfs

from ..http_clients import GUARD_S
from ..processes import descendants
from ..waiting import PATIENCE_S, until
from .daemon import Daemon, run
from .test_batch import UNTIL_GO

Make = Callable[..., str]
Frame = dict[str, Any]


@contextmanager
def stream(daemon: Daemon, session: str, **options: Any) -> Iterator[ClientConnection]:
    """A connection on which a run has been asked for."""
    url = f"{daemon.url.replace('http', 'ws')}/stream/session/{session}/execute"
    options = {"clean": None, "build": None, "buildLog": False, "exec": None} | options
    with connect(url, max_size=(1 << 20) - 1, close_timeout=5) as websocket:
        websocket.send(json.dumps({"code": "", "mode": "batch", "options": options}))
        yield websocket


def frames(websocket: ClientConnection) -> Iterator[Frame]:
    """Every frame until the server closes."""
    try:
        while True:
            yield json.loads(websocket.recv(timeout=PATIENCE_S))
    except ConnectionClosed as closed:
        assert closed.rcvd and closed.rcvd.code == 1000


def text(kind: str, *received: Frame) -> str:
    return "".join(data for f in received for type_, data in f["console"] if type_ == kind)


def words(*received: Frame) -> list[str]:
    return [data[3] for f in received for kind, data in f["console"] if kind == "log"]


def statuses(received: list[Frame]) -> list[tuple[str, int | None]]:
    return [(f["status"], f["exitCode"]) for f in received if f["status"] != "continued"]


def test_stdout_and_stderr_stay_apart_and_come_while_the_program_runs(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    program = f"echo made >&2; echo early; {UNTIL_GO}; echo late; exit 3"
    with stream(daemon, id, build="echo building", exec=program) as websocket:
        received = []
        for frame in frames(websocket):
            received.append(frame)
            if "early" in text("stdout", frame):
                http.post(f"/session/{id}/upload", files={"src": ("go", b"")}).raise_for_status()
    assert statuses(received) == [("clean-finished", 0), ("build-finished", 0), ("finished", 3)]
    assert text("stdout", *received) == "building\nearly\nlate\n"
    assert text("stderr", *received) == "made\n"


@pytest.mark.parametrize("step", ["build", "exec"])
def test_ten_megabytes_arrive_whole_in_frames_below_one(
    daemon: Daemon, session: Make, step: str
) -> None:
    program = "seq 1 1400000; echo end >&2"  # 10 MB; each frame is below max_size, else it ends
    with stream(daemon, session(), **{step: program}) as websocket:
        received = list(frames(websocket))
    assert text("stdout", *received) == "".join(f"{n}\n" for n in range(1, 1400001))
    assert text("stderr", *received) == "end\n" and not words(*received)
    assert statuses(received)[-1] == ("finished", 0)


def test_what_json_and_utf8_make_longer_stays_below_a_frame_too(
    daemon: Daemon, session: Make
) -> None:
    program = r"""python3 -c 'print("\x01\x02" * 600000); print("\U0001f600\u00e9" * 300000)'"""
    with stream(daemon, session("python"), exec=program) as websocket:
        received = list(frames(websocket))
    expected = "\x01\x02" * 600000 + "\n" + "\U0001f600\u00e9" * 300000 + "\n"
    assert text("stdout", *received) == expected


def test_a_person_answers_a_program(daemon: Daemon, session: Make) -> None:
    program = "read -p 'Name? ' x; echo; read -p \"Age of $x? \" y; echo; echo $x is $y"
    answers = iter(["Ada L.", "36"])
    with stream(daemon, session(), exec=program) as websocket:
        received = []
        for frame in frames(websocket):
            received.append(frame)
            if frame["status"] == "waiting-input":
                assert frame["options"] == {"is_password": False}
                websocket.send(next(answers))
    assert text("stdout", *received).endswith("Ada L. is 36\n")
    assert next(answers, None) is None
    assert statuses(received)[-1] == ("finished", 0)


def test_a_program_that_never_ends_reaches_its_limit(daemon: Daemon, session: Make) -> None:
    options = {"exec": "echo begun; sleep 60", "timeout": {"exec": 5}}
    with stream(daemon, session(), **options) as websocket:
        received = list(frames(websocket))
    assert statuses(received)[-1] == ("exec-timeout", None)
    assert text("stdout", *received) == "begun\n"
    assert received[-1]["verdict"]["limit"] == "wall_s"


@pytest.mark.parametrize(
    "program",
    ["trap 'echo $? > bye; exit' INT; ", "trap '' INT; "],
    ids=["interrupted", "killed"],
)
def test_when_the_client_leaves_the_program_ends(
    daemon: Daemon, http: httpx.Client, session: Make, program: str
) -> None:
    id = session()
    loop = {"exec": program + "echo begun; while :; do sleep 0.1; done", "timeout": {"exec": 600}}
    with stream(daemon, id, **loop) as websocket:
        while "begun" not in text("stdout", json.loads(websocket.recv(timeout=PATIENCE_S))):
            pass
    after = run(http, id, {"exec": "ls; ps -e | grep -c sleep"})  # when that has ended
    assert after.text("stdout") == ("bye\n0\n" if "bye" in program else "0\n")


def test_a_flood_to_a_slow_reader_costs_bounded_memory(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    limit = {"exec": "yes | head -c 120000000; echo; echo end", "timeout": {"exec": 600}}
    before = sum(resident(daemon, "api"))
    with stream(daemon, id, **limit) as websocket:
        until(lambda: resident(daemon, "shim"))
        most = 0

        def is_over() -> bool:
            nonlocal most
            most = max([most, *resident(daemon, "shim")])
            runs = http.get(f"/session/{id}").json()["sandbox"]["runs"]
            return bool(runs["begun"] and not runs["active"])

        until(is_over, GUARD_S)
        assert most < 40 << 20
        assert sum(resident(daemon, "api")) - before < 16 << 20
        received = list(frames(websocket))
    assert text("stdout", *received).startswith("y\ny\n")
    assert text("stdout", *received).endswith("\nend\n")
    assert len(text("stdout", *received)) > 25_000_000  # of the spool, 2 times 16 MiB
    assert any("dropped here" in word for word in words(*received))


def resident(daemon: Daemon, name: str) -> list[int]:
    """Bytes of memory of each process of this daemon with the name."""
    assert daemon.process
    pids = descendants(daemon.process.pid, f"sandboxd: {name}")
    memory = [procfs.text(f"/proc/{pid}/statm").split() for pid in pids]
    return [int(pages[1]) * 4096 for pages in memory if pages]
