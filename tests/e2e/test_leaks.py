"""The check for leaks of a real daemon: leaks of every kind are reported and removed."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..waiting import PATIENCE_S, until
from .daemon import Daemon
from .leaks import FIRST, FREE, SLOTS, as_uid, look, only

CONFIG = SLOTS
"""The configuration of the daemon of this module (conftest.py)."""


def test_daemon_at_work_has_no_leaks_and_reports_the_resources_of_each_session(
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
    assert report["leaks"] == [] and report["stuck"] == []
    (slot,) = (one for one in report["slots"] if one["session"] == id)
    assert slot["uid"] == FIRST + slot["slot"] and slot["runs"] == 1
    assert slot["processes"] >= 4  # shim, init, shell, sleep
    assert slot["loop"].startswith("/dev/loop") and slot["bytes"] > 0


def test_process_with_a_slots_uid_and_no_run_is_killed(root: httpx.Client) -> None:
    with as_uid(FREE) as planted:
        leak = only(look(root), "process")
        assert f"pid {planted.pid} uid {FIRST + FREE} /bin/sleep 600" in leak["identity"]
        assert leak["done"] == "killed" and 0 <= leak["age_s"] < 60
        assert planted.wait(PATIENCE_S) == -signal.SIGKILL
    assert look(root)["leaks"] == []


def test_process_with_a_sessions_uid_outside_of_its_runs_is_killed_and_the_run_goes_on(
    root: httpx.Client, session: Callable[..., str]
) -> None:
    id = session()
    body = {"mode": "batch", "runId": "r", "options": {"exec": "echo begun; sleep 3; echo end"}}
    assert root.post(f"/session/{id}", json=body).status_code == 200
    number = next(one["slot"] for one in look(root)["slots"] if one["session"] == id)
    with as_uid(number) as planted:
        leak = only(look(root), "process")
        assert f"pid {planted.pid} " in leak["identity"] and leak["done"] == "killed"
        planted.wait(PATIENCE_S)
    text = ""
    body = {"mode": "continue", "runId": "r"}
    while True:  # and its run goes on
        result = root.post(f"/session/{id}", json=body).json()["result"]
        text += "".join(data for kind, data in result["console"] if kind == "stdout")
        if result["status"] == "finished":
            break
    assert text == "begun\nend\n" and result["exitCode"] == 0


def test_dead_process_of_a_slots_uid_is_reported_and_its_slot_is_not_leased(
    root: httpx.Client, session: Callable[..., str]
) -> None:
    free = 0
    taken = {one["slot"] for one in look(root)["slots"]}
    while free in taken:
        free += 1
    with as_uid(free) as planted:
        planted.send_signal(signal.SIGKILL)
        until(lambda: Path(f"/proc/{planted.pid}/stat").read_text().split(")")[1][1] == "Z")
        assert look(root)["leaks"] == []  # its parent may be about to collect it
        until(lambda: bool(look(root)["leaks"]))
        leak = only(look(root), "process")
        assert leak["done"] == "left: it is dead and waits for its parent"
        id = session()
        slots = {one["session"]: one["slot"] for one in look(root)["slots"]}
        assert slots[id] != free
    assert look(root)["leaks"] == []


def slots_of(root: httpx.Client) -> dict[str, dict[str, Any]]:
    """The resources of each session, by session."""
    return {one["session"]: one for one in look(root)["slots"]}


def test_slot_that_cannot_be_emptied_is_not_leased_until_it_is_and_delays_no_other_session(
    root: httpx.Client, session: Callable[..., str]
) -> None:
    id = session()
    slot = slots_of(root)[id]
    number, device = slot["slot"], slot["loop"]
    used = os.open(device, os.O_RDONLY)  # as long as somebody has it open, it keeps the image
    try:
        assert root.delete(f"/session/{id}").status_code == 200
        others = [session() for _ in range(3)]  # these come while the slot is being emptied
        until(lambda: look(root)["stuck"] == [number])
        report = look(root)
        leak = only(report, "loop")
        assert device in leak["identity"] and leak["done"].startswith("left: ")
        assert report["stuck"] == [number]
        slots = slots_of(root)
        assert number not in [slots[other]["slot"] for other in others]
        assert root.get(f"/session/{id}").status_code == 404
    finally:
        os.close(used)
    until(lambda: look(root)["stuck"] == [])
    again = session()
    assert slots_of(root)[again]["slot"] == number


def test_dead_process_delays_the_next_lease_of_its_slot_but_not_the_end_of_its_session(
    daemon: Daemon, root: httpx.Client, session: Callable[..., str]
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
    holder = daemon.state / "slots" / str(number) / "session"

    def is_leased() -> bool:  # without a sweep
        time.sleep(0.15)
        again = session()  # it stays: other slots may be vacant
        return holder.exists() and holder.read_text() == again

    until(is_leased)


def test_slot_directory_without_a_session_is_removed(daemon: Daemon, root: httpx.Client) -> None:
    path = daemon.state / "slots" / str(FREE)
    (path / "runs" / "1").mkdir(parents=True)
    (path / "runs" / "1" / "console").write_text("x")
    assert only(look(root), "directory")["identity"] == f"slots/{FREE}"
    assert not path.exists()


def test_slot_directory_of_a_session_without_a_row_is_reported_and_left(
    daemon: Daemon, root: httpx.Client
) -> None:
    path, id = daemon.state / "slots" / str(FREE), str(uuid.uuid4())
    path.mkdir()
    (path / "session").write_text(id)
    try:
        leak = only(look(root), "session")
        assert id in leak["identity"] and leak["done"].startswith("left: ")
        assert (path / "session").read_text() == id
    finally:
        shutil.rmtree(path)


def groups_of(daemon: Daemon) -> list[Path]:
    """The daemon's own cgroup, in each hierarchy."""
    from hashlib import sha256

    name = "sandboxd-" + sha256(str(daemon.state).encode()).hexdigest()[:8]
    groups = [Path(top) / name for top, dirs, _ in os.walk("/sys/fs/cgroup") if name in dirs]
    assert groups
    return groups


@pytest.mark.parametrize("above", ["", f"slot-{FREE}/"], ids=["of an earlier version", "of a slot"])
def test_cgroup_of_no_run_is_removed_and_its_processes_are_killed(
    daemon: Daemon, root: httpx.Client, above: str
) -> None:
    places = [base / above for base in groups_of(daemon)]
    planted = [place / f"{FREE}.7" for place in places]
    for path in (*(places if above else ()), *planted):
        path.mkdir()
        for file in (*path.glob("cpuset.cpus"), *path.glob("cpuset.mems")):
            # An empty cpuset takes no process.
            file.write_text((path.parent / file.name).read_text())
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        for path in planted:
            (path / "cgroup.procs").write_text(str(process.pid))
        leak = only(look(root), "cgroup")
        assert leak["identity"] == f"{FREE}.7"
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
    while any(path.exists() for path in (*planted, *(places if above else ()))):
        look(root)  # fails only in the end: each sweep removes what has become empty
    assert look(root)["leaks"] == []


def test_loop_device_on_an_image_that_is_not_mounted_is_detached(
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
        leaks = {one["kind"]: one for one in look(root)["leaks"]}
        assert leaks["loop"]["identity"] == f"{device} /folders/planted/image"
        assert leaks["loop"]["done"] == "detached"
        assert leaks["folder"]["identity"] == "planted"  # without a row: reported, and left alone
        assert leaks["folder"]["done"].startswith("left: ") and image.exists()
    finally:
        shutil.rmtree(image.parent)
    left = subprocess.run(["losetup", "-j", image], capture_output=True, text=True).stdout
    assert left == "" and look(root)["leaks"] == []


def test_shared_memory_segment_of_a_slots_uid_is_removed(root: httpx.Client) -> None:
    program = "import ctypes; print(ctypes.CDLL(None).shmget(0, 4096, 0o1600))"
    created = subprocess.run(  # the system's Python: our own may lie in a closed directory
        ["/usr/bin/python3", "-c", program],
        user=FIRST + FREE, group=FIRST + FREE, extra_groups=[], capture_output=True, text=True,
    )  # fmt: skip
    number = int(created.stdout)
    assert number >= 0
    try:
        leak = only(look(root), "shm")
        assert leak["identity"] == f"{number} uid {FIRST + FREE}" and leak["done"] == "removed"
        assert not segment(number)
    finally:
        shmctl = ctypes.CDLL(None).shmctl
        shmctl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
        shmctl(number, 0, None)


def segment(number: int) -> bool:
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return any(int(line.split()[1]) == number for line in lines)


def test_half_made_image_is_removed_when_it_is_old(daemon: Daemon, root: httpx.Client) -> None:
    path = daemon.state / "blank" / "16777216-16.ext4.new"
    path.write_bytes(b"x")
    assert look(root)["leaks"] == [] and path.exists()  # its creation may be under way
    os.utime(path, (time.time() - 3600,) * 2)
    assert only(look(root), "temporary")["done"] == "removed"
    assert not path.exists()


def test_trial_directory_of_a_killed_start_is_removed_when_it_is_old(
    daemon: Daemon, root: httpx.Client
) -> None:
    path = daemon.state / "sandboxd-probe-killed"
    (path / "scratch").mkdir(parents=True)
    (path / "scratch.ext4").write_bytes(b"x")
    assert look(root)["leaks"] == [] and path.exists()
    os.utime(path, (time.time() - 3600,) * 2)
    used = os.open(path, os.O_RDONLY)
    fcntl.flock(used, fcntl.LOCK_EX)
    assert only(look(root), "temporary")["done"].startswith("left") and path.exists()
    os.close(used)
    assert only(look(root), "temporary")["done"] == "removed"
    assert not path.exists()
