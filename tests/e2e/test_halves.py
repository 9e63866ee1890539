"""Garbage between the halves of a daemon: it serves on, or both halves end and start again."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.wire import messages

from ..processes import files
from ..waiting import PATIENCE_S, until
from .daemon import ROOT, Daemon, run, running

pytestmark = pytest.mark.usefixtures("lasting")

LIBC = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD = 438
"""The number of pidfd_getfd(2) on every architecture."""


def end_of(pid: int) -> socket.socket:
    """A copy of the end of the socket between the halves that the process `pid` has."""
    process = os.pidfd_open(pid)
    try:
        sockets = [fd for fd, name in files(pid).items() if name.startswith("socket:")]
        for theirs in sockets:
            fd = LIBC.syscall(PIDFD_GETFD, process, theirs, 0)
            if fd < 0 and ctypes.get_errno() == errno.EBADF:  # closed since files()
                continue
            assert fd >= 0, "the test needs root"
            copy = socket.socket(fileno=fd)
            if (copy.family, copy.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                return copy
            copy.close()
    finally:
        os.close(process)
    raise AssertionError(f"{pid} has no such socket")


def raw(data: bytes) -> Callable[[socket.socket], object]:
    return lambda sock: sock.sendmsg([data])


def closed(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


def with_descriptors(data: bytes, count: int) -> Callable[[socket.socket], object]:
    def send(sock: socket.socket) -> None:
        fds = array.array("i", [0] * count)
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])

    return send


BROKEN: dict[str, Callable[[socket.socket], object]] = {
    "no JSON": raw(b"\x00\xff garbage"),
    "no object": raw(b"[1, 2]"),
    "half an object": raw(b'{"op": "ping", "id"'),
    "deep": raw(b"[" * 100_000),
    "a long number": raw(b'{"id": ' + b"9" * 10_000 + b"}"),
    "too long": raw(b'"' + b"x" * messages.PACKET + b'"'),
    "no JSON with descriptors": with_descriptors(b"garbage", 3),
    "empty": raw(b""),
    "closed": closed,
}
REFUSED = {
    "unknown request": raw(b'{"op": "shutdown", "id": 1000000}'),
    "no request": raw(b"{}"),
    "no number": raw(b'{"op": "ping", "id": []}'),
    "unknown argument": raw(b'{"op": "ping", "id": 1000000, "path": "/"}'),
    "descriptors of no request": with_descriptors(b'{"op": "ping", "id": 1000000}', 2),
    "more descriptors than a message has": with_descriptors(b'{"op": "ping", "id": 1000000}', 60),
}


def whole_end(daemon: Daemon, api: int) -> int:
    """Wait for the end of both halves; the exit status of the daemon."""
    assert daemon.process and daemon.process.stdout
    status = daemon.process.wait(PATIENCE_S)
    daemon.process.stdout.close()
    daemon.process = None
    until(lambda: not Path(f"/proc/{api}").exists())
    return status


@pytest.mark.parametrize("garbage", BROKEN)
@pytest.mark.parametrize("sender", ["api", "warden"])
def test_garbage_of_one_half_ends_both_and_the_service_starts_again(
    daemon: Daemon, sender: str, garbage: str
) -> None:
    with daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
    assert daemon.process
    api = daemon.api
    with end_of({"api": api, "warden": daemon.process.pid}[sender]) as sock:
        BROKEN[garbage](sock)
    assert whole_end(daemon, api) == 1
    daemon.start()
    with daemon.client() as http:
        assert run(http, id, {"exec": "echo well"}).text("stdout") == "well\n"
        assert http.delete(f"/session/{id}").status_code == 200


@pytest.mark.parametrize("garbage", ["no JSON", "closed"])
def test_api_that_is_deaf_and_sends_garbage_is_killed(daemon: Daemon, garbage: str) -> None:
    api = daemon.api
    with end_of(api) as sock:
        os.kill(api, signal.SIGSTOP)
        BROKEN[garbage](sock)
    assert whole_end(daemon, api) == 1


def test_request_that_the_table_does_not_have_is_refused_and_the_daemon_serves_on(
    daemon: Daemon,
) -> None:
    with end_of(daemon.api) as sock, daemon.client() as http:
        for send in REFUSED.values():
            send(sock)
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            assert http.get(f"/session/{id}/files").status_code == 200
            assert http.delete(f"/session/{id}").status_code == 200


PATIENT = "import sandboxd.warden.loop\nsandboxd.warden.loop.GRACE_S = 3600\n"
"""Read at the start of Python (site): a warden that waits for its jobs as long as they take."""


def test_daemon_that_garbage_ends_waits_for_no_job_that_is_done(folder: Path) -> None:
    """The jobs that empty its spare slots begin when it ends."""
    (folder / "patch").mkdir()
    (folder / "patch/sitecustomize.py").write_text(PATIENT)
    variables = {"PYTHONPATH": f"{ROOT}:{folder}/patch"}
    with running(folder, "[scratch]\nspares = 2\n", variables=variables) as daemon:
        until(lambda: len(list(daemon.state.glob("slots/*/session"))) == 2)
        api = daemon.api
        with end_of(api) as sock:
            BROKEN["no JSON"](sock)
        try:
            assert whole_end(daemon, api) == 1
        finally:
            if daemon.process:
                daemon.process.kill()
        daemon.start()
