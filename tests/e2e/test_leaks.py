"""Strays of every kind, planted beside a real daemon, are named and removed; what is somebody's is
left alone.

The uids are not those of other end-to-end tests, lest what another daemon leaves for a moment is
taken for a stray.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import passable
from .daemon import ROOT, Daemon, running

FIRST = 660000
SLOTS = f"[slots]\nfirst_uid = {FIRST}\ncount = 64\n"
FREE = 60
"""A slot that no session of these tests gets."""

Report = dict[str, Any]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with passable() as made, running(made, SLOTS) as started:
        yield started


@pytest.fixture
def root(daemon: Daemon) -> Iterator[httpx.Client]:
    """Root at the Unix socket."""
    transport = httpx.HTTPTransport(uds=f"{daemon.folder}/api.sock")
    with httpx.Client(transport=transport, base_url="http://sandboxd", timeout=60) as client:
        yield client


def look(root: httpx.Client) -> Report:
    answer = root.get("/admin/leaks")
    assert answer.status_code == 200, answer.text
    found: Report = answer.json()
    return found


def only(report: Report, kind: str) -> dict[str, Any]:
    (stray,) = report["strays"]
    assert stray["kind"] == kind, stray
    return dict(stray)


def as_uid(number: int) -> subprocess.Popen[bytes]:
    """A process with the uid of a slot that nobody started."""
    uid = FIRST + number
    return subprocess.Popen(["/bin/sleep", "600"], user=uid, group=uid, extra_groups=[])


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_daemon_at_work_has_no_strays_and_tells_what_each_session_has(
    daemon: Daemon, root: httpx.Client, session: Callable[..., str]
) -> None:
    id = session()
    body = {"mode": "batch", "runId": "r", "options": {"exec": "sleep 30 & echo up; sleep 30"}}
    while not root.post(f"/session/{id}", json=body).json()["result"]["console"]:
        body = {"mode": "continue", "runId": "r"}
    # A helper at work, too.
    with root.stream("GET", f"/session/{id}/download", params={"files": "."}) as answer:
        report = look(root)
        answer.read()
    assert report["strays"] == [] and report["stuck"] == []
    (slot,) = (one for one in report["slots"] if one["session"] == id)
    assert slot["uid"] == FIRST + slot["slot"] and slot["runs"] == 1
    assert slot["processes"] >= 4  # shim, init, shell, sleep
    assert slot["loop"].startswith("/dev/loop") and slot["bytes"] > 0


def test_a_process_with_a_slots_uid_and_no_run_is_killed(root: httpx.Client) -> None:
    with as_uid(FREE) as planted:
        stray = only(look(root), "process")
        assert f"pid {planted.pid} uid {FIRST + FREE} /bin/sleep 600" in stray["identity"]
        assert stray["done"] == "killed" and 0 <= stray["age_s"] < 60
        assert planted.wait(5) == -signal.SIGKILL
    assert look(root)["strays"] == []


def test_a_process_that_shares_a_sessions_uid_and_is_in_none_of_its_runs_is_killed(
    root: httpx.Client, session: Callable[..., str]
) -> None:
    id = session()
    body = {"mode": "batch", "runId": "r", "options": {"exec": "echo begun; sleep 3; echo end"}}
    assert root.post(f"/session/{id}", json=body).status_code == 200
    number = next(one["slot"] for one in look(root)["slots"] if one["session"] == id)
    with as_uid(number) as planted:
        stray = only(look(root), "process")
        assert f"pid {planted.pid} " in stray["identity"] and stray["done"] == "killed"
        planted.wait(5)
    text = ""
    body = {"mode": "continue", "runId": "r"}
    while True:  # and its run goes on
        result = root.post(f"/session/{id}", json=body).json()["result"]
        text += "".join(data for kind, data in result["console"] if kind == "stdout")
        if result["status"] == "finished":
            break
    assert text == "begun\nend\n" and result["exitCode"] == 0


def test_a_zombie_of_a_slots_uid_is_named_and_its_slot_not_leased(
    root: httpx.Client, session: Callable[..., str]
) -> None:
    free = 0
    taken = {one["slot"] for one in look(root)["slots"]}
    while free in taken:
        free += 1
    with as_uid(free) as planted:
        planted.send_signal(signal.SIGKILL)
        eventually(lambda: Path(f"/proc/{planted.pid}/stat").read_text().split(")")[1][1] == "Z")
        assert look(root)["strays"] == []  # its parent may be about to collect it
        eventually(lambda: bool(look(root)["strays"]))
        stray = only(look(root), "process")
        assert stray["done"] == "left: it is dead and awaits its parent"
        id = session()
        slots = {one["session"]: one["slot"] for one in look(root)["slots"]}
        assert slots[id] != free
    assert look(root)["strays"] == []


def slots_of(root: httpx.Client) -> dict[str, dict[str, Any]]:
    """What each session has, by session."""
    return {one["session"]: one for one in look(root)["slots"]}


def test_a_slot_that_cannot_be_emptied_is_nobodys_until_it_is_and_keeps_nobody_waiting(
    root: httpx.Client, session: Callable[..., str]
) -> None:
    id = session()
    slot = slots_of(root)[id]
    number, device = slot["slot"], slot["loop"]
    used = os.open(device, os.O_RDONLY)  # as long as somebody has it open, it keeps the image
    try:
        with ThreadPoolExecutor() as pool:
            deleting = pool.submit(root.delete, f"/session/{id}")
            others = [session() for _ in range(3)]  # these come while the slot is being emptied
            assert not deleting.done()
            answer = deleting.result()
        assert answer.status_code == 503 and answer.json()["data"]["stage"] == "release"
        report = look(root)
        stray = only(report, "loop")
        assert device in stray["identity"] and stray["done"].startswith("left: ")
        assert report["stuck"] == [number]
        slots = slots_of(root)
        assert number not in [slots[other]["slot"] for other in others]
        assert root.get(f"/session/{id}").status_code == 404
    finally:
        os.close(used)
    eventually(lambda: look(root)["stuck"] == [])
    again = session()
    assert slots_of(root)[again]["slot"] == number


def test_the_dead_of_a_slot_delay_its_next_lease_but_not_the_end_of_its_session(
    root: httpx.Client, session: Callable[..., str]
) -> None:
    id = session()
    number = slots_of(root)[id]["slot"]
    with as_uid(number) as planted:
        planted.send_signal(signal.SIGKILL)  # and nobody waits for it
        assert root.delete(f"/session/{id}").status_code == 200
        other = session()
        assert slots_of(root)[other]["slot"] != number
        assert look(root)["stuck"] == [number]
        time.sleep(0.5)  # the try that follows a sweep is over, and was in vain
    eventually(lambda: f"@sandboxd/uid/{FIRST + number}\n" not in leases())  # without a sweep
    again = session()
    assert slots_of(root)[again]["slot"] == number


def leases() -> str:
    """The leases of uids that this host has now (warden/slots/leases.py), among other sockets."""
    return Path("/proc/net/unix").read_text()


def test_a_directory_of_a_slot_that_was_never_finished_is_removed(
    daemon: Daemon, root: httpx.Client
) -> None:
    path = daemon.state / "slots" / str(FREE)
    (path / "runs" / "1").mkdir(parents=True)
    (path / "runs" / "1" / "console").write_text("x")
    assert only(look(root), "directory")["identity"] == f"slots/{FREE}"
    assert not path.exists()


def test_a_directory_that_names_a_session_without_a_row_is_named_and_left(
    daemon: Daemon, root: httpx.Client
) -> None:
    path, id = daemon.state / "slots" / str(FREE), str(uuid.uuid4())
    path.mkdir()
    (path / "session").write_text(id)
    try:
        stray = only(look(root), "session")
        assert id in stray["identity"] and stray["done"].startswith("left: ")
        assert (path / "session").read_text() == id
    finally:
        shutil.rmtree(path)


def groups_of(daemon: Daemon) -> list[Path]:
    """The daemon's own cgroup, in each hierarchy."""
    from hashlib import sha256

    name = "sandboxd-" + sha256(str(daemon.state).encode()).hexdigest()[:8]
    found = [Path(top) / name for top, dirs, _ in os.walk("/sys/fs/cgroup") if name in dirs]
    assert found
    return found


def test_a_cgroup_of_no_run_is_removed_with_what_is_in_it(
    daemon: Daemon, root: httpx.Client
) -> None:
    planted = [base / f"{FREE}.7" for base in groups_of(daemon)]
    for path in planted:
        path.mkdir()
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        for path in planted:
            (path / "cgroup.procs").write_text(str(process.pid))
        stray = only(look(root), "cgroup")
        assert stray["identity"] == f"{FREE}.7"
        assert process.wait(5) == -signal.SIGKILL
    look(root)
    assert not any(path.exists() for path in planted) and look(root)["strays"] == []


def test_a_loop_device_on_an_image_that_nobody_has_mounted_is_detached(
    daemon: Daemon, root: httpx.Client
) -> None:
    image = daemon.state / "folders" / "planted" / "image"
    image.parent.mkdir()
    with open(image, "wb") as file:
        file.truncate(1 << 20)
    try:
        done = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True)
        device = done.stdout.strip()
        assert device, done.stderr
        found = {one["kind"]: one for one in look(root)["strays"]}
        assert found["loop"]["identity"] == f"{device} /folders/planted/image"
        assert found["loop"]["done"] == "detached"
        assert found["folder"]["identity"] == "planted"  # nobody's row: named, and left alone
        assert found["folder"]["done"].startswith("left: ") and image.exists()
    finally:
        shutil.rmtree(image.parent)
    left = subprocess.run(["losetup", "-j", image], capture_output=True, text=True).stdout
    assert left == "" and look(root)["strays"] == []


def test_a_shared_memory_segment_of_a_slots_uid_is_removed(root: httpx.Client) -> None:
    program = "import ctypes; print(ctypes.CDLL(None).shmget(0, 4096, 0o1600))"
    made = subprocess.run(  # the system's Python: our own may lie in a closed directory
        ["/usr/bin/python3", "-c", program],
        user=FIRST + FREE, group=FIRST + FREE, extra_groups=[], capture_output=True, text=True,
    )  # fmt: skip
    number = int(made.stdout)
    assert number >= 0
    try:
        stray = only(look(root), "shm")
        assert stray["identity"] == f"{number} uid {FIRST + FREE}" and stray["done"] == "removed"
        assert not segment(number)
    finally:
        ctypes.CDLL(None).shmctl(number, 0, None)


def segment(number: int) -> bool:
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return any(int(line.split()[1]) == number for line in lines)


def test_a_half_made_image_is_removed_when_it_is_old(daemon: Daemon, root: httpx.Client) -> None:
    path = daemon.state / "blank" / "16777216-16.ext4.new"
    path.write_bytes(b"x")
    assert look(root)["strays"] == [] and path.exists()  # it may be being made
    os.utime(path, (time.time() - 3600,) * 2)
    assert only(look(root), "temporary")["done"] == "removed"
    assert not path.exists()


def test_what_a_killed_start_had_tried_is_removed_when_it_is_old(
    daemon: Daemon, root: httpx.Client
) -> None:
    path = daemon.state / "sandboxd-probe-killed"
    (path / "scratch").mkdir(parents=True)
    (path / "scratch.ext4").write_bytes(b"x")
    assert look(root)["strays"] == [] and path.exists()
    os.utime(path, (time.time() - 3600,) * 2)
    used = os.open(path, os.O_RDONLY)
    fcntl.flock(used, fcntl.LOCK_EX)
    assert only(look(root), "temporary")["done"].startswith("left") and path.exists()
    os.close(used)
    assert only(look(root), "temporary")["done"] == "removed"
    assert not path.exists()


def test_what_another_daemon_has_is_never_touched(
    daemon: Daemon, root: httpx.Client, session: Callable[..., str], folder: Path
) -> None:
    """Its slots have uids of our range, as those of a private daemon have."""
    with running(folder, SLOTS) as other, other.client() as http:
        session()
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        body = {"mode": "batch", "runId": "r", "options": {"exec": "sleep 2; echo whole"}}
        http.post(f"/session/{id}", json=body)
        for _ in range(3):
            assert look(root)["strays"] == []
        text = ""
        body = {"mode": "continue", "runId": "r"}
        while True:
            result = http.post(f"/session/{id}", json=body).json()["result"]
            text += "".join(data for kind, data in result["console"] if kind == "stdout")
            if result["status"] == "finished":
                break
        assert text == "whole\n"


def test_a_run_that_outlives_another_daemon_is_never_touched(
    daemon: Daemon, root: httpx.Client, folder: Path
) -> None:
    """Nobody holds the lease of its uid, which is of our range: its group and files tell."""
    with running(folder, SLOTS) as other:
        with other.client() as http:
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            options = {"exec": "echo up; while [ ! -e go ]; do sleep 0.1; done; echo whole"}
            body = {"mode": "batch", "runId": "r", "options": options}
            while not http.post(f"/session/{id}", json=body).json()["result"]["console"]:
                body = {"mode": "continue", "runId": "r"}
        assert other.process and other.process.stdout
        other.process.kill()
        other.process.wait()
        other.process.stdout.close()
        for _ in range(3):
            assert look(root)["strays"] == []
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


def leaks(daemon: Daemon, *options: str) -> subprocess.CompletedProcess[str]:
    socket = f"{daemon.folder}/api.sock"
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "leaks", "--socket", socket, *options],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def test_the_command_says_what_was_found_and_exits_with_1(
    daemon: Daemon, session: Callable[..., str]
) -> None:
    session()
    done = leaks(daemon)
    assert (done.returncode, done.stderr) == (0, "")
    assert "slots leased" in done.stdout and "no strays" in done.stdout
    with as_uid(FREE) as planted:
        done = leaks(daemon)
        assert done.returncode == 1 and f"pid {planted.pid} " in done.stdout
        assert "killed" in done.stdout
    with as_uid(FREE) as planted:
        done = leaks(daemon, "--json")
        (stray,) = json.loads(done.stdout)["strays"]
        assert done.returncode == 1 and f"pid {planted.pid} " in stray["identity"]


def test_without_a_daemon_the_command_says_so_in_one_line(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "leaks", "--socket", f"{folder}/none"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 1
