"""The daemon from its first line to its last, and what it leaves."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from .daemon import ROOT, Daemon, leftovers, run, running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in (tmp_path, *tmp_path.parents):
        if "pytest-" in path.name:
            path.chmod(0o711)
    return tmp_path


def titles() -> dict[str, int]:
    """sandboxd's processes, by what `ps` shows, with their uid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
            uid = int((path / "status").read_text().split("Uid:")[1].split()[0])
        except OSError:
            continue
        if text.startswith("sandboxd: "):
            found[text] = uid
    return found


def test_processes_are_those_of_the_picture(folder: Path) -> None:
    with running(folder) as daemon, daemon.client() as http:
        assert titles() == {"sandboxd: warden": 0, "sandboxd: api": 729999}
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        assert titles() == {"sandboxd: warden": 0, "sandboxd: api": 729999}
        call = {"mode": "batch", "runId": "r", "options": {"exec": "sleep 30"}}
        http.post(f"/session/{id}", json=call)
        time.sleep(0.5)
        assert titles() == {
            "sandboxd: warden": 0, "sandboxd: api": 729999,
            "sandboxd: shim slot 0 run 1": 730000, "sandboxd: init": 730000,
        }  # fmt: skip
        http.delete(f"/session/{id}")
        assert titles() == {"sandboxd: warden": 0, "sandboxd: api": 729999}


def test_api_has_no_privileges(folder: Path) -> None:
    with running(folder):
        pid = next(
            path.parent
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.read_bytes().startswith(b"sandboxd: api")
        )
        status = dict(
            line.split(":\t", 1)
            for line in (pid / "status").read_text().splitlines()
            if ":\t" in line
        )
        assert all(int(status[f"Cap{s}"], 16) == 0 for s in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
        assert status["NoNewPrivs"] == "1"
        assert status["Groups"].strip() == ""


def test_sessions_and_files_survive_a_restart(folder: Path) -> None:
    with running(folder) as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "python", "name": "kept"})
            run(http, "kept", {"exec": "echo here > file"})
        assert daemon.stop() == 0
        daemon.start()
        with daemon.client() as http:
            assert run(http, "kept", {"exec": "cat file"}).text("stdout") == "here\n"
            assert http.delete("/session/kept").status_code == 200


def test_stop_during_a_run_leaves_nothing(folder: Path) -> None:
    before = leftovers()
    with running(folder) as daemon:
        with daemon.client() as http:
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            call = {
                "mode": "batch",
                "options": {"exec": "trap '' TERM; setsid sleep 60 & sleep 60"},
            }
            http.post(f"/session/{id}", json=call)
        assert daemon.stop() == 0
        assert leftovers() == before


@pytest.mark.parametrize("victim", ["warden", "api"])
def test_killed_half_takes_the_other_with_it_and_the_next_start_is_clean(
    folder: Path, victim: str
) -> None:
    with running(folder) as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "c", "name": "kept"})
            run(http, "kept", {"exec": "echo here > file"})
            call = {"mode": "batch", "options": {"exec": "setsid sleep 60 & sleep 60"}}
            http.post("/session/kept", json=call)
        assert daemon.process and daemon.process.stdout
        warden = daemon.process.pid  # and no other daemon's that this host may have
        children = Path(f"/proc/{warden}/task/{warden}/children").read_text().split()
        for pid in (warden, *map(int, children)):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"sandboxd: {victim}".encode()):
                os.kill(pid, signal.SIGKILL)
        assert daemon.process.wait(10) != 0
        daemon.process.stdout.close()
        deadline = time.monotonic() + 5
        while "sandboxd: api" in titles():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        daemon.start()
        with daemon.client() as http:
            assert "sandboxd: init" not in titles()
            assert run(http, "kept", {"exec": "cat file"}).text("stdout") == "here\n"


def test_default_socket_is_for_root_alone(folder: Path) -> None:
    with running(folder):
        mode = os.stat(folder / "api.sock").st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        transport = httpx.HTTPTransport(uds=str(folder / "api.sock"))
        with httpx.Client(transport=transport, base_url="http://sandboxd") as http:
            assert http.get("/").json()["version"] == "v7.20230615"
    assert not (folder / "api.sock").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--listen", "0.0.0.0:1", "--auth", "none"], "refused"),
        (["--listen", "what"], "HOST:PORT or unix:PATH"),
        (["--config", "/nowhere.toml"], "No such file"),
        (["--auth", "open"], "invalid choice"),
        (["--nonsense"], "unrecognized"),
        (["--state-dir", "/proc/x", "--listen", "unix:/tmp/sandboxd-never.sock"], "--state-dir"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(options: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "serve", *options],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_second_daemon_on_the_same_socket_is_refused(folder: Path) -> None:
    with running(folder):
        other = Daemon(folder)
        with pytest.raises(AssertionError):
            other.start()
        assert other.process and other.process.stdout
        assert other.process.wait(10) == 2
        other.process.stdout.close()
