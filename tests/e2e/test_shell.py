"""`sandboxd shell` on a real terminal: keys, sizes, exit codes, and what is left afterwards."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ..http_clients import unix_client
from ..waiting import PATIENCE_S
from .daemon import Daemon, environ, running
from .own_leaks import leaks
from .terminals import PROMPT, WAITING
from .test_run import sandboxd

Make = Callable[..., str]


class Emulator:
    """A terminal emulator with a command of sandboxd in it."""

    def __init__(self, *args: str) -> None:
        self.master, slave = os.openpty()
        self.before = termios.tcgetattr(slave)
        self.resize(30, 90)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sandboxd", *args],
            env=environ(),
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.slave = slave
        self.shown = b""

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str, within: float = 2 * PATIENCE_S) -> str:
        deadline = time.monotonic() + within
        while text.encode() not in self.shown:
            left = max(0, deadline - time.monotonic())
            ready, _, _ = select.select([self.master], [], [], left)
            assert ready, f"no {text!r} in {self.shown!r}"
            self.shown += os.read(self.master, 65536)
        before, _, self.shown = self.shown.partition(text.encode())
        return before.decode(errors="replace")

    def end(self) -> int:
        """The exit status; the terminal is as it was."""
        status = self.process.wait(PATIENCE_S)
        assert termios.tcgetattr(self.slave) == self.before
        return status

    def close(self) -> None:
        """End the command, if it still runs, and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@contextmanager
def shell(*args: str) -> Iterator[Emulator]:
    with closing(Emulator("shell", *args)) as emulator:
        yield emulator


@pytest.fixture
def socket(daemon: Daemon) -> str:
    return f"{daemon.folder}/api.sock"


@pytest.fixture
def mine(socket: str) -> Iterator[str]:
    """A session of the caller at the Unix socket."""
    with unix_client(socket) as http:
        http.post("/session", json={"name": "shell-test", "image": "c"})
        yield "shell-test"
        assert http.delete("/session/shell-test").status_code == 200, "it stays when one leaves"


def sessions(socket: str) -> int:
    with unix_client(socket) as http:
        query = {"query": '{compute_session_list(limit:9,offset:0,status:"RUNNING"){total_count}}'}
        answer = http.post("/admin/gql", json=query).json()
    return int(answer["data"]["compute_session_list"]["total_count"])


def test_person_works_in_a_session_of_his(socket: str, mine: str) -> None:
    with shell(mine, "--socket", socket) as it:
        it.until(PROMPT)
        it.type("stty size; tty\n")
        it.until("30 90\r\n/dev/pts/0\r\n")
        it.type(WAITING)
        it.until("waiting")
        it.type("\x03")
        it.until("^C")
        it.until(PROMPT)
        it.resize(44, 111)
        # the signal takes another way than keys
        it.type("until stty size | grep -x '44 111'; do sleep 0.1; done; exit 7\n")
        it.until("44 111\r\n")
        assert it.end() == 7


def test_new_session_goes_when_one_leaves(socket: str) -> None:
    before = sessions(socket)
    with shell("c", "--socket", socket, "--env", "MINE=yes") as it:
        it.until("its files go when you leave")
        it.until(PROMPT)
        assert sessions(socket) == before + 1
        it.type("echo $MINE; exit\n")
        it.until("yes\r\n")
        assert it.end() == 0
    assert sessions(socket) == before


def test_terminal_window_that_is_closed_takes_the_session_with_it(socket: str) -> None:
    before = sessions(socket)
    with shell("c", "--socket", socket) as it:
        it.until(PROMPT)
        it.process.send_signal(signal.SIGHUP)
        assert it.end() == 129
    assert sessions(socket) == before


def test_session_that_ends_is_reported(socket: str) -> None:
    with unix_client(socket) as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        with shell(id, "--socket", socket) as it:
            it.until(PROMPT)
            http.delete(f"/session/{id}")
            it.until("sandboxd: the session has ended\r\n")
            assert it.end() == 125


def test_without_a_daemon_there_is_a_private_one() -> None:
    before = leaks()
    with shell("c", "--private") as it:
        it.until(PROMPT)
        it.type("exit 3\n")
        assert it.end() == 3
    assert leaks() <= before


def test_mistakes_are_one_line(socket: str, mine: str) -> None:
    done = sandboxd("shell", "c", "--socket", socket)
    assert (done.returncode, done.stderr) == (
        2, "sandboxd: shell needs a terminal; without one, use 'sandboxd run'\n",
    )  # fmt: skip
    for name in ("no-such-thing", "../session", "", "a b"):
        with shell(name, "--socket", socket) as it:
            assert it.end() == 2
            assert "sandboxd: " in it.until("\r\n")
    with shell(mine, "--socket", socket) as one, shell(mine, "--socket", socket) as two:
        one.until(PROMPT)
        two.until(PROMPT)
        with shell(mine, "--socket", socket) as three, shell(mine, "--socket", socket) as four:
            three.until(PROMPT)
            four.until(PROMPT)
            with shell(mine, "--socket", socket) as five:
                five.until("sandboxd: at most 4 terminals of a session may be open\r\n")
                assert five.end() == 125


def test_daemon_that_dies_gives_the_terminal_back(folder: Path) -> None:
    with running(folder) as daemon, daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        with shell(id, "--socket", f"{folder}/api.sock") as it:
            it.until(PROMPT)
            assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
            it.until(
                "sandboxd: the daemon has closed the terminal: it was stopped or restarted\r\n"
            )
            assert it.end() == 125
        daemon.start()
