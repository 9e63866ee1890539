"""A host whose disk, inodes or descriptors are used up: refused in time, and well again after."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from .daemon import run, running

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
    """Take what room is left."""
    with open(path, "wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


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
    with running(folder) as daemon, daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        assert daemon.process
        warden = daemon.process.pid
        used = max(int(fd) for fd in os.listdir(f"/proc/{warden}/fd"))
        _, most = resource.prlimit(warden, resource.RLIMIT_NOFILE)
        resource.prlimit(warden, resource.RLIMIT_NOFILE, (used + 3, most))
        statuses = set()
        for number in range(4):
            call = {"mode": "batch", "runId": f"r{number}", "options": {"exec": "echo x"}}
            try:
                statuses.add(http.post("/session/kept", json=call, timeout=10).status_code)
            except httpx.TransportError:
                statuses.add(0)
        assert statuses == {503}
        assert http.post("/session", json={"image": "c", "name": "more"}).status_code == 503
        resource.prlimit(warden, resource.RLIMIT_NOFILE, (most, most))
        assert run(http, "kept", {"exec": "echo well"}).text("stdout") == "well\n"
        assert http.post("/session", json={"image": "c", "name": "more"}).status_code == 201
        for name in ("kept", "more"):
            assert http.delete(f"/session/{name}").status_code == 200
