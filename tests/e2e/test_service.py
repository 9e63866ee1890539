"""The daemon under a service manager, which is played by the test: sockets, notices, watchdog."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..http_clients import unix_client
from ..processes import children
from ..users import ALICE, BOB, client_of
from ..waiting import PATIENCE_S
from .daemon import ROOT, SLOTS, configured
from .own_leaks import leaks

# As systemd does it: the socket is descriptor 3, LISTEN_PID the process that becomes the daemon.
_EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Service:
    """A daemon with a socket that was opened for it, and what it tells."""

    def __init__(self, folder: Path, mode: int = 0o600, options: str = "") -> None:
        self.path = str(folder / "api.sock")
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(str(folder / "notify"))
        self.notifications.settimeout(PATIENCE_S)
        text = configured(f'metrics = ""\n{SLOTS}[scratch]\nsize = 33554432\n')
        (folder / "config.toml").write_text(text)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(self.path)
            os.chmod(self.path, mode)
            sock.listen()
            command = [
                sys.executable,
                "-c",
                _EXEC,
                str(sock.fileno()),
                sys.executable,
                "-P",
                "-m",
                "sandboxd",
                "serve",
            ]
            command += [
                "--listen",
                f"unix:{self.path}{options}",
                "--config",
                str(folder / "config.toml"),
            ]
            command += ["--state-dir", str(folder / "state")]
            environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LISTEN_FDS": "1"}
            environ |= {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "600000"}
            self.process = subprocess.Popen(
                command, env=environ, pass_fds=[sock.fileno()], stderr=subprocess.PIPE, text=True
            )

    def next(self) -> str:
        """The next message to systemd."""
        return self.notifications.recv(4096).decode()

    def await_message(self, start: str) -> None:
        """Wait for a message that begins so: a slow daemon may tell of its life before."""
        while not self.next().startswith(start):
            pass

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(PATIENCE_S) == 0
        self.notifications.close()
        assert self.process.stderr
        self.process.stderr.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that the unprivileged api may pass through."""
    before = leaks()
    with tempfile.TemporaryDirectory(prefix="sandboxd-e2e-") as name:
        os.chmod(name, 0o711)
        yield Path(name)
    assert leaks() <= before


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    """A service for one test."""
    with contextlib.closing(Service(folder)) as service:
        yield service


def test_answers_on_the_passed_socket_says_so_and_leaves_its_file(service: Service) -> None:
    service.await_message("READY=1\nSTATUS=0 sessions, 0 runs")
    with unix_client(service.path) as client:
        assert client.post("/session", json={"name": "only-one", "image": "c"}).status_code == 201
        while service.next() != "WATCHDOG=1\nSTATUS=1 sessions, 0 runs":
            pass
        assert client.delete("/session/only-one").status_code == 200
    service.process.terminate()
    while service.next() != "STOPPING=1\nSTATUS=stopping":
        pass
    assert service.process.wait(PATIENCE_S) == 0
    assert os.path.exists(service.path), "it is the service manager's"


@pytest.mark.parametrize("half", ["api", "warden"])
def test_watchdog_is_fed_as_long_as_both_halves_are_at_work(service: Service, half: str) -> None:
    service.await_message("READY=1")
    assert service.next().startswith("WATCHDOG=1")
    warden = service.process.pid
    stopped = warden if half == "warden" else next(iter(children(warden, "sandboxd: api")))
    os.kill(stopped, signal.SIGSTOP)
    try:
        service.notifications.settimeout(1.5)
        with pytest.raises(TimeoutError):
            for _ in range(500):  # some may have been said before, more if this process is late
                service.next()
    finally:
        os.kill(stopped, signal.SIGCONT)
    service.notifications.settimeout(PATIENCE_S)
    assert service.next().startswith("WATCHDOG=1")


def test_passed_socket_that_everybody_may_open_is_refused(folder: Path) -> None:
    with contextlib.closing(Service(folder, mode=0o666)) as service:
        assert service.process.wait(PATIENCE_S) == 2
        assert service.process.stderr
        said = service.process.stderr.read()
    assert "api.sock is open to everybody" in said and "SocketMode=0600" in said
    assert said.count("\n") == 1


@pytest.mark.root
def test_user_at_a_passed_socket_owns_its_sessions(folder: Path) -> None:
    with contextlib.closing(Service(folder, mode=0o660)) as service:
        service.await_message("READY=1")
        os.chown(service.path, 0, BOB)  # as SocketGroup= does
        with client_of(service.path, ALICE, (BOB,)) as alice, client_of(service.path, BOB) as bob:
            body = {"name": "only-one", "image": "c"}
            assert alice.post("/session", json=body).status_code == 201
            assert bob.get("/session/only-one").status_code == 404
            assert bob.get("/admin/drain").status_code == 403
            assert alice.delete("/session/only-one").status_code == 200


@pytest.mark.root
def test_passed_socket_with_keys_may_be_open_to_everybody_and_is_signed(folder: Path) -> None:
    with contextlib.closing(Service(folder, 0o666, "?auth=keypair")) as service:
        service.await_message("READY=1")
        for uid in (0, ALICE):
            with client_of(service.path, uid) as user:
                assert user.get("/manager/status").status_code == 401
