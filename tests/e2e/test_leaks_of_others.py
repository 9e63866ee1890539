"""The check for leaks beside other daemons, whose resources are left alone, and its command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from ..http_clients import GUARD_S, unix_client
from .conftest import passable
from .daemon import ROOT, Daemon, running
from .leaks import FREE, SLOTS, as_uid, look

CONFIG = SLOTS
"""The configuration of the daemon of this module (conftest.py)."""


def test_resources_of_another_daemon_with_the_same_uids_are_not_touched(
    daemon: Daemon, root: httpx.Client, session: Callable[..., str], folder: Path
) -> None:
    """Its slots have uids of our range, as those of a private daemon have."""
    with running(folder, SLOTS) as other, other.client() as http:
        session()
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        body = {"mode": "batch", "runId": "r", "options": {"exec": "sleep 2; echo whole"}}
        http.post(f"/session/{id}", json=body)
        for _ in range(3):
            assert look(root)["leaks"] == []
        text = ""
        body = {"mode": "continue", "runId": "r"}
        while True:
            result = http.post(f"/session/{id}", json=body).json()["result"]
            text += "".join(data for kind, data in result["console"] if kind == "stdout")
            if result["status"] == "finished":
                break
        assert text == "whole\n"


def test_session_whose_uid_another_daemon_has_at_the_start_keeps_its_files(folder: Path) -> None:
    """It is not served before the next start, and says why; its slot is not leased again."""
    with running(folder, SLOTS) as mine:
        with mine.client() as http:
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            http.post(f"/session/{id}/upload", files={"src": ("kept", b"data")})
        assert mine.stop() == 0
        with passable() as place:
            other = Daemon(place, SLOTS)
            other.start()
            with other.client() as http:
                http.post("/session", json={"image": "c"})
            mine.start()
            other.purge()
            assert other.stop() == 0
        with mine.client() as http:
            refused = http.get(f"/session/{id}")
            assert refused.status_code == 503 and "another daemon" in refused.text
            assert http.post("/session", json={"image": "c"}).status_code == 201
        with unix_client(f"{folder}/api.sock") as operator:
            assert look(operator)["leaks"] == []
        assert mine.stop() == 0
        mine.start()
        with mine.client() as http:
            assert "kept" in http.get(f"/session/{id}/files").text
        mine.purge()


def test_run_that_outlives_another_daemon_is_not_touched(
    daemon: Daemon, root: httpx.Client, folder: Path
) -> None:
    """Nobody holds the lease of its uid, which is of our range: its group and files tell."""
    with running(folder, SLOTS) as other:
        with other.client() as http:
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            program = "echo up; while [ ! -e go ]; do sleep 0.1; done; echo whole"
            options = {"exec": program, "timeout": 600}
            body = {"mode": "batch", "runId": "r", "options": options}
            while not http.post(f"/session/{id}", json=body).json()["result"]["console"]:
                body = {"mode": "continue", "runId": "r"}
        assert other.process and other.process.stdout
        other.process.kill()
        other.process.wait()
        other.process.stdout.close()
        for _ in range(3):
            assert look(root)["leaks"] == []
        other.start()
        with other.client() as http:
            assert http.post(f"/session/{id}/upload", files={"src": ("go", b"")}).status_code == 204
            text, body = "", {"mode": "continue", "runId": "r"}
            while True:
                result = http.post(f"/session/{id}", json=body).json()["result"]
                text += "".join(data for kind, data in result["console"] if kind == "stdout")
                if result["status"] == "finished":
                    break
            assert text == "whole\n" and result["exitCode"] == 0
            assert http.delete(f"/session/{id}").status_code == 200


def leaks_command(daemon: Daemon, *options: str) -> subprocess.CompletedProcess[str]:
    socket = f"{daemon.folder}/api.sock"
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "leaks", "--socket", socket, *options],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=GUARD_S,
    )  # fmt: skip


def test_leaks_command_prints_the_leaks_and_exits_with_1(
    daemon: Daemon, session: Callable[..., str]
) -> None:
    session()
    done = leaks_command(daemon)
    assert (done.returncode, done.stderr) == (0, "")
    assert "slots leased" in done.stdout and "no leaks" in done.stdout
    with as_uid(FREE) as planted:
        done = leaks_command(daemon)
        assert done.returncode == 1 and f"pid {planted.pid} " in done.stdout
        assert "killed" in done.stdout
    with as_uid(FREE) as planted:
        done = leaks_command(daemon, "--json")
        (leak,) = json.loads(done.stdout)["leaks"]
        assert done.returncode == 1 and f"pid {planted.pid} " in leak["identity"]


def test_leaks_command_without_a_daemon_reports_it_in_one_line(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "leaks", "--socket", f"{folder}/none"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 1
