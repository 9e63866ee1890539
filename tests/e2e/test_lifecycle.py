"""The daemon from its first line to its last, and what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from sandboxd.host import procfs
from sandboxd.warden.runs.cgroups import own_name, places

from ..processes import descendants, title
from ..waiting import PATIENCE_S, until
from .daemon import ROOT, Daemon, run, running
from .own_leaks import first_uid


def processes(daemon: Daemon) -> dict[str, int]:
    """The daemon and all below it, by what `ps` shows, with their uid."""
    assert daemon.process
    pid = daemon.process.pid
    uids: dict[str, int] = {}
    for one, text in ({pid: title(pid)} | descendants(pid)).items():
        (ids,) = procfs.status(one, "Uid")
        # Jobs come and go, and a dead process has no text.
        if ids and text and ": job" not in text:
            uids[re.sub(r"slot \d+", "slot N", text)] = int(ids.split()[0])
    return uids


def with_sleep(daemon: Daemon) -> dict[str, int] | None:
    """The processes, once a program sleeps."""
    now = processes(daemon)
    return now if "sleep\x0030" in now else None


def test_processes_are_those_of_the_picture(daemon: Daemon, http: httpx.Client) -> None:
    pool = {"sandboxd: spawner": 0, "sandboxd: prepared": 0}
    idle = {"sandboxd: warden": 0, "sandboxd: api": first_uid() - 1} | pool
    until(lambda: processes(daemon) == idle)
    id = http.post("/session", json={"image": "c"}).json()["sessionId"]
    assert processes(daemon) == idle
    call = {"mode": "batch", "runId": "r", "options": {"exec": "sleep 30"}}
    http.post(f"/session/{id}", json=call)
    titles = until(lambda: with_sleep(daemon))
    uid = titles["sandboxd: init"]
    assert uid >= first_uid()
    shim = {"sandboxd: shim slot N run 1": uid, "sandboxd: init": uid}
    assert titles == idle | shim | {"sleep\x0030": uid}
    http.delete(f"/session/{id}")
    until(lambda: processes(daemon) == idle)


def test_api_has_no_privileges(daemon: Daemon) -> None:
    pid = Path("/proc", str(daemon.api))
    assert (pid / "cmdline").read_bytes().startswith(b"sandboxd: api")
    status = dict(
        line.split(":\t", 1) for line in (pid / "status").read_text().splitlines() if ":\t" in line
    )
    assert all(int(status[f"Cap{s}"], 16) == 0 for s in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    assert status["NoNewPrivs"] == "1"
    assert status["Groups"].strip() == ""


@pytest.mark.usefixtures("lasting")
def test_socket_goes_and_sessions_and_files_survive_a_restart(daemon: Daemon) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "python", "name": "kept"})
        run(http, "kept", {"exec": "echo here > file"})
    assert daemon.stop() == 0
    assert not (daemon.folder / "api.sock").exists()
    daemon.start()
    with daemon.client() as http:
        assert run(http, "kept", {"exec": "cat file"}).text("stdout") == "here\n"
        assert http.delete("/session/kept").status_code == 200


def test_default_socket_is_for_root_alone(daemon: Daemon, root: httpx.Client) -> None:
    mode = os.stat(daemon.folder / "api.sock").st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert root.get("/").json()["version"] == "v7.20230615"


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
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(("to", "first"), [("the daemon", 100), ("all its processes", 160)])
def test_sigterm_at_any_moment_of_a_start_leaves_nothing(folder: Path, to: str, first: int) -> None:
    daemon = Daemon(folder)
    listen = f"unix:{folder}/api.sock"
    command = [sys.executable, "-P", "-m", "sandboxd", "serve", "--listen", listen]
    command += ["--state-dir", str(daemon.state), "--config", str(folder / "config.toml")]
    early, own = 0, own_name(str(daemon.state))
    # A start takes half a second, and longer on a busy machine: 0 is the moment when the daemon has
    # made its first directory.
    for delay in (*range(first, 700, 120), 0):
        with subprocess.Popen(
            command, env=daemon.environ, stdout=subprocess.PIPE, start_new_session=True
        ) as starting:
            if not delay:
                until(lambda: any(map(os.path.isdir, places(own))))
            time.sleep(delay / 1000)
            directories = [path for path in places(own) if os.path.isdir(path)]
            if to == "the daemon":
                starting.terminate()
            else:
                os.killpg(starting.pid, signal.SIGTERM)
            assert starting.stdout
            ready = bool(starting.stdout.read())
        assert starting.returncode in ((0,) if directories or ready else (0, -signal.SIGTERM))
        assert not [path for path in places(own) if os.path.isdir(path)], delay
        assert not list(daemon.state.glob("sandboxd-probe-*"))
        assert not (folder / "api.sock").exists()
        early += bool(directories) and not ready
    assert early


SLOW_API = """
import os, sys, time
from pathlib import Path
from sandboxd.cli.main import main

def wait():
    if os.path.exists(sys.argv[3].removeprefix("unix:")) and not slow.exists():
        slow.touch()  # the listeners are there: this is the api
        time.sleep(1)

slow = Path(sys.argv.pop())
os.register_at_fork(after_in_child=wait)
sys.exit(main())
"""


def test_sigterm_reaches_an_api_that_has_just_been_forked(folder: Path) -> None:
    daemon = Daemon(folder)
    options = ["serve", "--listen", f"unix:{folder}/api.sock", "--state-dir", str(daemon.state)]
    options += ["--config", str(folder / "config.toml"), str(folder / "slow")]
    command = [sys.executable, "-P", "-c", SLOW_API, *options]
    with subprocess.Popen(command, env=daemon.environ) as starting:
        try:
            while not (folder / "slow").exists():
                assert starting.poll() is None
                time.sleep(0.01)
            time.sleep(0.3)  # the warden is in its loop
            starting.terminate()
            assert starting.wait(PATIENCE_S) == 0
        finally:
            starting.terminate()


def test_second_daemon_on_the_same_socket_is_refused(daemon: Daemon) -> None:
    other = Daemon(daemon.folder)
    with pytest.raises(AssertionError, match="exit status 2"):
        other.start()


def test_second_daemon_on_the_same_state_is_refused_and_harms_nothing(
    daemon: Daemon, session: Callable[..., str], http: httpx.Client
) -> None:
    id = session()
    other = [sys.executable, "-P", "-m", "sandboxd", "serve", "--listen", "127.0.0.1:0"]
    done = subprocess.run(
        [*other, "--auth", "none", "--state-dir", str(daemon.state)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "another sandboxd uses it" in done.stderr
    assert run(http, id, {"exec": "echo there"}).text("stdout") == "there\n"


def test_file_in_the_place_of_the_socket_is_not_replaced(folder: Path) -> None:
    (folder / "precious").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "serve", "--listen", f"unix:{folder}/precious",
         "--state-dir", f"{folder}/state"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert (folder / "precious").read_text() == "kept"


def test_file_call_that_outlives_its_session_does_not_meet_the_next_tenant(folder: Path) -> None:
    """Downloads hold all turns, one more waits, the session goes, its slot is leased again."""
    with running(folder) as daemon, daemon.client() as http:
        first = http.post("/session", json={"image": "c"}).json()["sessionId"]
        run(http, first, {"exec": "truncate -s 500M big"})
        results: list[httpx.Response] = []

        def late() -> None:
            with daemon.client() as other:
                files = [("src", ("planted", b"by the first"))]
                results.append(other.post(f"/session/{first}/upload", files=files))

        with contextlib.ExitStack() as stack:
            for _ in range(8):
                held = stack.enter_context(daemon.client())
                url = f"/session/{first}/download_single?file=big"
                stack.enter_context(held.stream("GET", url))
            thread = threading.Thread(target=late)
            thread.start()
            time.sleep(0.5)
            assert http.delete(f"/session/{first}").status_code == 200
            second = http.post("/session", json={"image": "c"}).json()["sessionId"]
        thread.join(PATIENCE_S)
        assert results[0].status_code in (404, 503)
        assert run(http, second, {"exec": "ls"}).text("stdout") == ""


def test_web_page_open_on_this_machine_gets_nothing_done(http: httpx.Client) -> None:
    """DNS rebinding, a form that a page sends by itself, and a page that uses fetch."""
    host = http.base_url.netloc.decode()
    for headers in (
        {"Host": f"evil.example:{host.split(':')[1]}"},
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        body = json.dumps({"image": "c", "name": "made-by-a-page"})
        answer = http.post("/session", content=body, headers=headers)
        assert answer.status_code == 403, headers
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"].endswith("/insufficient-privilege")
        assert http.get("/", headers=headers).status_code == 403
    assert http.get("/session/made-by-a-page").status_code == 404
