"""A host whose disk, inodes or descriptors are used up, or whose disk hangs: refused in time or
waited for, and well again after."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..http_clients import GUARD_S
from ..processes import files
from ..waiting import steady, until
from .daemon import follow, run, running
from .waiting_jails import WARM, count, ended, prepared, warm

MIB = 1 << 20
SMALL = (
    "[scratch]\nsize = 33554432\ninodes = 1024\n[admission]\ndisk = 1000.0\nowner.disk = 1000.0\n"
)


@contextmanager
def small(path: Path, options: str) -> Iterator[None]:
    """A file system of its own for the daemon's state, gone afterwards."""
    path.mkdir(mode=0o711)
    mount = ["mount", "-t", "tmpfs", "-o", f"mode=711,{options}", "small", str(path)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Fill the file system: write a file at `path` until the disk takes no more."""
    with open(path, "wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def fill_inodes(path: Path) -> None:
    """Take all free inodes, with files in a new directory at `path`."""
    path.mkdir()
    with contextlib.suppress(OSError):
        for number in range(1 << 20):
            (path / str(number)).touch()


@contextmanager
def disk(image: Path, path: Path, *options: str) -> Iterator[None]:
    """An ext4 of its own for the daemon's state."""
    image.touch()
    os.truncate(image, 512 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, str(image)], check=True)
    path.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=True)
    path.chmod(0o711)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def hanging(path: Path, at_most_s: float = GUARD_S) -> Iterator[None]:
    """Nothing can be written to the file system at `path` meanwhile (ioctl_fsfreeze). It must
    not stay so, whatever becomes of this process: it could not even be unmounted."""
    thaw = threading.Timer(at_most_s, lambda: subprocess.run(["fsfreeze", "-u", str(path)]))
    thaw.daemon = True
    thaw.start()
    subprocess.run(["fsfreeze", "-f", str(path)], check=True)
    try:
        yield
    finally:
        thaw.cancel()
        subprocess.run(["fsfreeze", "-u", str(path)], check=True)


def test_disk_that_hangs_delays_what_is_written_and_nothing_else(folder: Path) -> None:
    state = folder / "state"
    with disk(folder / "disk", state), running(folder, SMALL) as daemon, daemon.client() as http:
        for name in ("kept", "other"):
            http.post("/session", json={"image": "c", "name": name}).raise_for_status()
        counting = "for i in $(seq 20); do echo $i; sleep 0.1; done"
        options = {"exec": counting, "timeout": 600}
        call = {"mode": "batch", "code": "", "runId": "r", "options": options}
        assert http.post("/session/kept", json=call).status_code == 200

        def ask(method: str, path: str, **more: Any) -> httpx.Response:
            with daemon.client() as own:
                return own.request(method, path, **more)

        going = {"mode": "continue", "code": "", "runId": "r"}
        echo = {"mode": "batch", "code": "", "runId": "q", "options": {"exec": "echo late"}}
        calls: list[Future[httpx.Response]] = []
        with ThreadPoolExecutor(16) as pool:
            with hanging(state):
                held = [pool.submit(ask, "POST", "/session/other", json=echo)]
                held += [
                    pool.submit(ask, "POST", "/session", json={"image": "c", "name": f"more{n}"})
                    for n in range(8)  # more than there are threads
                ]
                for _ in range(3):
                    for path in ("/", "/session/kept", "/session/other/logs", "/healthz"):
                        assert http.get(path).status_code == 200
                    # Its note goes to memory where the host has a tmpfs for it, else it waits.
                    calls.append(pool.submit(ask, "POST", "/session/kept", json=going))
                assert http.get("/readyz").status_code == 503
                assert not any(one.done() for one in held)
            assert [one.result().status_code for one in held] == [200] + 8 * [201]
            assert [one.result().status_code for one in calls] == 3 * [200]
        follow(http, "kept", going)
        assert http.get("/session/kept/logs").json()["result"]["logs"].split() == [
            str(n) for n in range(1, 21)
        ]
        for name in ("kept", "other", *(f"more{n}" for n in range(8))):
            assert http.delete(f"/session/{name}").status_code == 200


def test_archive_that_fills_the_disk_is_507_and_files_can_be_read_meanwhile(folder: Path) -> None:
    state, precious, large = folder / "state", os.urandom(4 * MIB), os.urandom(24 * MIB)
    config = SMALL.replace("33554432", "134217728")

    def archive(name: str, content: bytes) -> bytes:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        return info.tobuf() + content + bytes(-len(content) % 512 + 1024)

    with small(state, "size=64m"), running(folder, config) as daemon, daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "full"}).raise_for_status()
        url = "/session/full/archive"
        assert http.put(url, content=archive("precious", precious)).status_code == 200
        fill(state / "filler")
        late = http.put(url, content=archive("late", large))
        assert late.status_code == 507, late.text
        assert "the server's disk did not take the data" in late.json()["msg"]
        for _ in range(2):
            assert "precious" in http.get("/session/full/files").json()["files"]
            assert "late" not in http.get("/session/full/files").json()["files"]
            one = http.get("/session/full/download_single", params={"file": "precious"})
            assert one.content == precious
            again = http.put(url, content=archive("late", large))
            assert again.status_code == 507, again.text
        (state / "filler").unlink()
        assert http.put(url, content=archive("late", large)).status_code == 200
        assert http.get("/session/full/download_single?file=late").content == large
        assert http.delete("/session/full").status_code == 200


def test_full_disk_is_507_and_nothing_is_lost(folder: Path) -> None:
    state = folder / "state"
    with small(state, "size=48m"), running(folder, SMALL) as daemon, daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        assert http.post(
            "/session/kept/upload", files=[("src", ("precious", b"kept"))]
        ).status_code == 204  # fmt: skip
        fill(state / "filler")
        refused = http.post("/session", json={"image": "c", "name": "more"})
        assert refused.status_code == 507, refused.text
        assert refused.json()["type"].endswith("insufficient-storage")
        call = {"mode": "batch", "code": "", "runId": "r", "options": {"exec": "echo never"}}
        assert http.post("/session/kept", json=call).status_code == 507
        data = os.urandom(MIB)
        late = http.post("/session/kept/upload", files=[("src", ("late", data))])
        assert late.status_code in (204, 507), late.text
        (state / "filler").unlink()
        shown = run(http, "kept", {"exec": "cat precious"})
        assert shown.text("stdout") == "kept", shown.results[-1]["console"]
        assert http.post("/session", json={"image": "c", "name": "more"}).status_code == 201
        again = http.post("/session/kept/upload", files=[("src", ("late", data))])
        assert again.status_code == 204, again.text
        daemon.end("both")
        daemon.start()
        with daemon.client() as http:
            assert http.get("/session/kept/download_single?file=precious").content == b"kept"
            assert http.get("/session/kept/download_single?file=late").content == data
            for name in ("kept", "more"):
                assert http.delete(f"/session/{name}").status_code == 200


@pytest.mark.parametrize("end", ["both", "neither"])
@pytest.mark.parametrize("filled", [fill, fill_inodes])
def test_daemon_comes_up_on_a_full_disk_and_is_well_again_when_there_is_room(
    folder: Path, end: str, filled: Callable[[Path], None]
) -> None:
    state = folder / "state"
    counting = "for i in $(seq 60); do echo $i; sleep 0.05; done"
    with disk(folder / "disk", state, "-N", "512"), running(folder, SMALL) as daemon:
        with daemon.client() as http:
            for name in ("kept", "other"):
                http.post("/session", json={"image": "c", "name": name}).raise_for_status()
            sent = http.post("/session/kept/upload", files=[("src", ("precious", b"kept"))])
            assert sent.status_code == 204
            call = {"mode": "batch", "code": "", "runId": "r", "options": {"exec": counting}}
            assert http.post("/session/kept", json=call).status_code == 200
            reserve = state / "reserve"
            until(lambda: len(list(reserve.glob("*"))) == 16)
        if end == "neither":  # SQLite's own files are gone then
            daemon.end(end)
        filled(state / "filler")
        if end != "neither":
            daemon.end(end)
        daemon.start()
        with daemon.client() as http:
            assert http.get("/readyz").status_code == 503
            assert http.get("/session/kept/download_single?file=precious").content == b"kept"
            extra = []  # the reserve for the start has room for a few
            while (response := http.post("/session", json={"image": "c"})).status_code == 201:
                extra.append(response.json()["sessionId"])
            assert response.status_code == 507 and len(extra) < 8
            for id in extra:
                assert http.delete(f"/session/{id}").status_code == 200
            outcome = follow(http, "kept", {"mode": "continue", "code": "", "runId": "r"})
            assert outcome.text("stdout").split()[-1] == "60"
            assert outcome.exits[-1] == 0
            assert http.delete("/session/other").status_code == 200
            if filled is fill:
                (state / "filler").unlink()
            else:
                shutil.rmtree(state / "filler")
            assert run(http, "kept", {"exec": "cat precious"}).text("stdout") == "kept"
            until(lambda: http.get("/readyz").status_code == 200)
            more = {"image": "c", "name": "more"}
            until(lambda: http.post("/session", json=more).status_code == 201)
            index = state / "api" / "sandboxd.sqlite-shm"
            assert index.exists(), "the database can be used by the command line again"
        daemon.end("both")
        daemon.start()
        with daemon.client() as http:
            assert http.get("/session/other").status_code == 404
            for name in ("kept", "more"):
                assert http.delete(f"/session/{name}").status_code == 200


def test_full_inode_table_is_507_and_passes(folder: Path) -> None:
    state = folder / "state"
    room = "size=96m,nr_inodes=60"
    with small(state, room), running(folder, SMALL) as daemon, daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        taken: list[Path] = []
        with pytest.raises(OSError):
            while True:
                taken.append(state / f"filler{len(taken)}")
                taken[-1].touch()
        assert http.post("/session", json={"image": "c", "name": "more"}).status_code == 507
        refused = http.post("/session/kept", json={"mode": "batch", "options": {"exec": "x"}})
        assert refused.status_code == 507, refused.text
        for path in taken:
            path.unlink(missing_ok=True)
        assert run(http, "kept", {"exec": "echo well"}).text("stdout") == "well\n"
        assert http.delete("/session/kept").status_code == 200
        assert list(state.glob("slots/*")) == []


def test_warden_without_descriptors_refuses_and_is_well_again(folder: Path) -> None:
    with running(folder, "[scratch]\nspares = 0\n") as daemon, daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        assert daemon.process
        warden = daemon.process.pid
        used = steady(lambda: max(files(warden)))  # jails that wait have their sockets
        _, most = resource.prlimit(warden, resource.RLIMIT_NOFILE)
        resource.prlimit(warden, resource.RLIMIT_NOFILE, (used + 1, most))
        statuses = set()
        for number in range(4):
            call = {"mode": "batch", "runId": f"r{number}", "options": {"exec": "echo x"}}
            statuses.add(http.post("/session/kept", json=call).status_code)
        assert statuses == {503}
        names = ["kept"]  # a session needs fewer descriptors than a run: some may have room
        while http.post("/session", json={"image": "c", "name": f"n{len(names)}"}).is_success:
            names.append(f"n{len(names)}")
        resource.prlimit(warden, resource.RLIMIT_NOFILE, (most, most))
        assert run(http, "kept", {"exec": "echo well"}).text("stdout") == "well\n"
        assert http.post("/session", json={"image": "c", "name": "more"}).status_code == 201
        for name in (*names, "more"):
            assert http.delete(f"/session/{name}").status_code == 200


def limit_files(pid: int, count: int) -> None:
    """Let a process have no descriptor above `count`. Without a capability for it one has to have
    its uids (prlimit(2))."""
    status = Path(f"/proc/{pid}/status").read_text()
    uid = int(status.partition("Uid:")[2].split()[0])
    command = ["prlimit", "--pid", str(pid), f"--nofile={count}:"]
    subprocess.run(command, check=True, user=uid, group=uid, extra_groups=[])


def test_api_without_descriptors_loses_no_run_and_is_well_again(folder: Path) -> None:
    with running(folder) as daemon, daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        used = max(files(daemon.api))
        limit_files(daemon.api, used + 2)
        for name in ("a", "b"):
            options = {"exec": f"echo {name} >> begun; echo {name}", "stdin": "text"}
            call = {"mode": "batch", "runId": name, "options": options}
            # Refused or not, it has been taken down.
            assert http.post("/session/kept", json=call).status_code in (200, 503)
        with ThreadPoolExecutor() as pool:
            others = [pool.submit(httpx.get, daemon.url, timeout=GUARD_S) for _ in range(8)]
            for _ in range(3):
                assert http.get("/session/kept").status_code == 200
            limit_files(daemon.api, 1024)
            assert {other.result().status_code for other in others} == {200}
        for name in ("a", "b"):
            done = follow(http, "kept", {"mode": "continue", "code": "", "runId": name})
            assert (done.text("stdout"), done.exits[-1]) == (f"{name}\n", 0)
        begun = http.get("/session/kept/download_single", params={"file": "begun"})
        assert begun.content == b"a\nb\n"
        assert http.delete("/session/kept").status_code == 200


def test_full_disk_with_jails_waiting_costs_no_run_but_those_that_it_refuses(folder: Path) -> None:
    state = folder / "state"
    with contextlib.ExitStack() as stack:
        stack.enter_context(small(state, "size=48m"))
        daemon = stack.enter_context(running(folder, SMALL + WARM))
        http = stack.enter_context(daemon.client())
        http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        assert count(http).text("stdout") == "1\n"
        waiting = [*prepared(daemon), warm(daemon)]
        fill(state / "filler")
        call = {"mode": "batch", "code": "", "options": {"exec": "echo begun >> begun"}}
        assert http.post("/session/kept", json=call | {"runId": "full"}).status_code == 507
        assert not any(ended(one) for one in waiting)
        (state / "filler").unlink()
        assert count(http).text("stdout") == "2\n"
        assert http.delete("/session/kept").status_code == 200
