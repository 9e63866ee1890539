"""A host whose disk is slow: what is written takes its time, nothing else does, and nothing that
was promised is lost when the daemon is killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from .daemon import Daemon, follow, run, running
from .test_full import MIB, SMALL, disk

BLKIO = Path("/sys/fs/cgroup/blkio")
"""The group of all processes and of the kernel's own writers, in cgroup v1: below v2's root they
cannot all be slowed down together."""


@contextlib.contextmanager
def slow(path: Path) -> Iterator[None]:
    """The disk of the file system at `path` takes a MiB and 60 writes a second."""
    source = subprocess.run(
        ["findmnt", "-no", "MAJ:MIN", str(path)], check=True, capture_output=True, text=True
    )
    device = source.stdout.strip()
    rules = {"write_bps": MIB, "write_iops": 60}
    for name, value in rules.items():
        (BLKIO / f"blkio.throttle.{name}_device").write_text(f"{device} {value}")
    try:
        yield
    finally:
        for name in rules:
            (BLKIO / f"blkio.throttle.{name}_device").write_text(f"{device} 0")


needs_throttle = pytest.mark.skipif(
    not (BLKIO / "blkio.throttle.write_bps_device").exists(), reason="needs blkio of cgroup v1"
)


@needs_throttle
def test_slow_disk_slows_what_is_written_and_nobody_else(folder: Path) -> None:
    state = folder / "state"
    with disk(folder / "disk", state), running(folder, SMALL) as daemon, daemon.client() as http:
        for name in ("writer", "reader"):
            http.post("/session", json={"image": "c", "name": name}).raise_for_status()
        counting = "for i in $(seq 100); do echo $i; sleep 0.1; done"
        options = {"exec": counting, "timeout": 600}
        call = {"mode": "batch", "code": "", "runId": "r", "options": options}
        assert http.post("/session/reader", json=call).status_code == 200
        data = {str(number): os.urandom(MIB // 2) for number in range(12)}
        with slow(state), ThreadPoolExecutor(4) as pool:
            late = [
                pool.submit(_upload, daemon, "writer", data),
                pool.submit(_create, daemon, "more"),
            ]
            answered = 0
            while not all(one.done() for one in late):
                for path in ("/", "/session/reader", "/session/reader/logs", "/healthz"):
                    assert http.get(path).status_code == 200
                    answered += 1
            assert [one.result() for one in late] == [204, 201]
            assert answered > 40, "they have not waited for the disk"
            outcome = follow(http, "reader", {"mode": "continue", "code": "", "runId": "r"})
            assert outcome.text("stdout").split() == [str(number) for number in range(1, 101)]
            written = run(http, "writer", {"exec": "head -c 4M /dev/urandom > file && echo yes"})
            assert written.text("stdout") == "yes\n"
        for name, content in data.items():
            download = http.get("/session/writer/download_single", params={"file": name})
            assert download.content == content
        for name in ("writer", "reader", "more"):
            assert http.delete(f"/session/{name}").status_code == 200


@needs_throttle
@pytest.mark.parametrize("victim", ["warden", "both"])
def test_kill_on_a_slow_disk_keeps_what_was_promised(folder: Path, victim: str) -> None:
    state = folder / "state"
    with disk(folder / "disk", state), running(folder, SMALL) as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        data = {str(number): os.urandom(MIB // 2) for number in range(12)}
        promised: list[str] = []
        with slow(state):
            uploads = threading.Thread(target=_upload_all, args=(daemon, data, promised))
            uploads.start()
            while len(promised) < 3:
                time.sleep(0.01)
            daemon.end(victim)
            uploads.join()
            daemon.start()
            with daemon.client() as http:
                assert 3 <= len(promised) < len(data)
                for name in promised:
                    download = http.get("/session/kept/download_single", params={"file": name})
                    assert download.content == data[name], name
                assert run(http, "kept", {"exec": "echo well"}).text("stdout") == "well\n"
        with daemon.client() as http:
            assert http.delete("/session/kept").status_code == 200


def _create(daemon: Daemon, name: str) -> int:
    with daemon.client() as http:
        return http.post("/session", json={"image": "c", "name": name}).status_code


def _upload(daemon: Daemon, session: str, data: dict[str, bytes]) -> int:
    with daemon.client() as http:
        files = [("src", item) for item in data.items()]
        return http.post(f"/session/{session}/upload", files=files).status_code


def _upload_all(daemon: Daemon, data: dict[str, bytes], promised: list[str]) -> None:
    """Note each name when its upload was acknowledged, until the daemon is gone."""
    with contextlib.suppress(httpx.TransportError):
        for name, content in data.items():
            if _upload(daemon, "kept", {name: content}) == 204:
                promised.append(name)
