"""The count of connections that are in no file, in network namespaces of the test's own."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandboxd.host import tcp_sockets
from sandboxd.jail import syscalls
from sandboxd.warden.runs import connection_count, socket_networks, turns
from sandboxd.warden.runs.connection_count import SOCKET, TcpConnections

from ...waiting import until

PRELUDE = """
import os, socket, struct, sys, threading
from sandboxd.jail import network, syscalls
syscalls.unshare(syscalls.CLONE_NEWNET)
network.apply()
server = socket.socket(FAMILY)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 400_000)
server.bind(("", 0))
server.listen(4096)
def client():
    sock = socket.socket(FAMILY)
    sock.connect(server.getsockname())
    return sock
def fill(sock):
    sock.setblocking(False)
    try:
        while sock.send(bytes(65536)):
            pass
    except BlockingIOError:
        pass
def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""
FULL = 100_000
"""Bytes that a full connection has at least."""


@contextmanager
def having(program: str, family: str = "socket.AF_INET") -> Iterator[str]:
    """A process that has done `program` in a network of its own; a directory that names it as
    a cgroup does."""
    source = f"{PRELUDE.replace('FAMILY', family)}\n{program}\nready()"
    command = [sys.executable, "-c", source]
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"ready\n"
        Path(directory, "cgroup.procs").write_text(f"{process.pid}\n")
        try:
            yield directory
        finally:
            process.kill()


def count_connections(groups: dict[str, str]) -> dict[str, int]:
    """The runs that a count without a bound names."""
    result = connection_count.count_connections(groups, 1 << 30)
    assert not result["unclear"] or result["over"]
    return dict(result["over"])


def count(program: str, family: str = "socket.AF_INET") -> TcpConnections:
    """The connections of a process that has done `program`."""
    with having(program, family) as directory:
        pid = int(Path(directory, "cgroup.procs").read_text())
        with connection_count.network_of(pid):
            return connection_count.connections()


@pytest.mark.parametrize("family", ["socket.AF_INET", "socket.AF_INET6"])
def test_full_connections_that_nobody_has_accepted_are_counted_with_what_they_have(
    family: str,
) -> None:
    seen = count("for _ in range(5): sock = client(); fill(sock); sock.close()", family)
    assert seen.waiting >= 5 * FULL


def test_connections_that_wait_empty_are_counted_with_their_sockets() -> None:
    seen = count("clients = [client() for _ in range(7)]")
    assert 7 * SOCKET <= seen.waiting < FULL
    assert seen.reset == seen.orphans == 0


def test_connections_that_were_accepted_are_not_counted() -> None:
    seen = count("pairs = [(client(), server.accept()) for _ in range(5)]")
    assert (seen.waiting, seen.reset, seen.orphans) == (0, 0, 0)


def test_connections_that_were_reset_before_they_were_accepted_are_counted_by_the_queue() -> None:
    seen = count("for _ in range(5): sock = client(); fill(sock); reset(sock)")
    assert (seen.waiting, seen.reset) == (5 * SOCKET, 5)


def test_connections_that_were_closed_before_the_other_end_was_are_counted() -> None:
    seen = count(
        "pairs = [(client(), server.accept()[0]) for _ in range(5)]\n"
        "for sock, _ in pairs: fill(sock); sock.close()"
    )
    assert (seen.orphans, seen.waiting) == (5, 0)


FEW, MANY = (f"for _ in range({n}): sock = client(); fill(sock); sock.close()" for n in (1, 20))


def test_only_the_run_that_has_more_than_it_may_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", 10 * FULL)
    with having(FEW) as one, having(MANY) as other, having("") as idle:
        over = count_connections({"1.1": one, "2.1": other, "3.1": idle})
    assert set(over) == {"2.1"} and over["2.1"] >= 20 * FULL


def test_connections_that_were_reset_have_the_memory_that_no_other_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", 10 * FULL)
    with having("for _ in range(20): sock = client(); fill(sock); reset(sock)") as directory:
        assert set(count_connections({"1.1": directory})) == {"1.1"}
        monkeypatch.setattr(connection_count, "tcp_memory", lambda: 0)
        assert count_connections({"1.1": directory}) == {}


def test_closed_connections_have_a_bound_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "pairs = [(client(), server.accept()[0]) for _ in range(5)]\n"
    program += "for sock, _ in pairs: fill(sock); sock.close()"
    with having(program) as directory:
        assert count_connections({"1.1": directory}) == {}
        monkeypatch.setattr(connection_count, "most_orphans", lambda: 4)
        assert set(count_connections({"1.1": directory})) == {"1.1"}


def test_connections_of_a_network_whose_run_is_over_count_for_the_run_that_has_a_socket_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", 10 * FULL)
    elsewhere = f"{MANY}\nsyscalls.unshare(syscalls.CLONE_NEWNET)"
    with having(elsewhere) as one, having("") as other:
        assert set(count_connections({"1.1": one, "2.1": other})) == {"1.1"}


COPIES = "copied = os.eventfd(0)\nfor _ in range(3000): os.dup(copied)"
RESET = "for _ in range(20): sock = client(); reset(sock)"
HIDDEN_MAX = 50 * FULL
ELSEWHERE = f"{MANY}\nsyscalls.unshare(syscalls.CLONE_NEWNET)"
HIDING = f"{ELSEWHERE}\nos.dup2(server.fileno(), 4000)\nserver.close()"


def test_run_over_its_bound_does_not_keep_others_from_being_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", 10 * FULL)
    resets = "for _ in range(20): sock = client(); fill(sock); reset(sock)"
    with having(MANY) as sacrifice, having(ELSEWHERE) as handed_on, having(resets) as other:
        groups = {"1.1": sacrifice, "2.1": handed_on, "3.1": other}
        assert set(count_connections(groups)) == {"1.1", "2.1", "3.1"}


def test_copies_of_a_descriptor_do_not_delay_the_count_of_another_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", HIDDEN_MAX)
    full_and_reset = "for _ in range(20): sock = client(); fill(sock); reset(sock)"
    with having(f"{full_and_reset}\n{COPIES}") as one, having(ELSEWHERE) as other:
        result = connection_count.count_connections({"1.1": one, "2.1": other}, 2000)
        assert set(result["over"]) == {"2.1"} and result["unclear"] == ["1.1"]


def test_run_is_not_ended_for_memory_that_another_one_hides_behind_copies_of_a_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", HIDDEN_MAX)
    with having(RESET) as one, having(f"{COPIES}\n{HIDING}") as other:
        groups = {"1.1": one, "2.1": other}
        result = connection_count.count_connections(groups, 1000)
        assert result == {"over": {}, "unclear": ["2.1", "1.1"]}
        assert set(count_connections(groups)) == {"2.1"}


def test_run_with_connections_that_were_reset_is_not_ended_for_memory_of_a_container_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", HIDDEN_MAX)
    with having(MANY), having(RESET) as directory:
        # others make and end networks, too, while this one counts
        until(lambda: count_connections({"1.1": directory}) == {})


def test_many_accepted_connections_do_not_delay_the_count_of_another_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", 10 * FULL)
    monkeypatch.setattr(turns, "SLICE", 16)
    many = "pairs = [(client(), server.accept()) for _ in range(200)]"
    with having(many) as one, having(MANY) as other:
        result = connection_count.count_connections({"1.1": one, "2.1": other}, 48)
    assert set(result["over"]) == {"2.1"} and result["unclear"] == ["1.1"]


def test_run_whose_sockets_cannot_be_looked_at_for_want_of_descriptors_is_unclear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pidfd_getfd(*_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", 10 * FULL)
    with having(ELSEWHERE) as directory:
        groups = {"1.1": directory}
        with monkeypatch.context() as context:
            context.setattr(syscalls, "pidfd_getfd", pidfd_getfd)
            result = connection_count.count_connections(groups, 1 << 30)
        assert result == {"over": {}, "unclear": ["1.1"]}
        assert set(count_connections(groups)) == {"1.1"}


LONG_PATH = """
for _ in range(20):
    os.mkdir("x" * 250)
    os.chdir("x" * 250)
kept = open("file", "w")
os.unlink("file")
for _ in range(20):
    os.chdir("..")
    os.rmdir("x" * 250)
"""


def test_file_with_a_path_that_no_link_names_keeps_no_run_from_being_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connection_count, "CONNECTIONS_MAX", 10 * FULL)
    with having(f"os.chdir({str(tmp_path)!r})\n{LONG_PATH}") as long, having(ELSEWHERE) as other:
        pid = int(Path(long, "cgroup.procs").read_text())
        with pytest.raises(OSError, match="too long"):
            list(map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()))
        assert set(count_connections({"1.1": long, "2.1": other})) == {"2.1"}


LINGERING = """
pair = client(), server.accept()[0]
fill(pair[0])
pair[0].setblocking(True)
pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
def close():
    sys.stdin.readline()
    pair[0].close()
    print("closed", flush=True)
    sys.stdin.readline()
print("ready", flush=True)
close()
"""


def test_socket_whose_close_waits_does_not_keep_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    source = f"{PRELUDE.replace('FAMILY', 'socket.AF_INET')}\n{LINGERING}"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", source], stdin=pipe, stdout=pipe) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == b"ready\n"

        def close_meanwhile(fd: int, request: int) -> int:
            """The copy of the socket becomes the last one."""
            assert process.stdin and process.stdout
            if is_lingering(fd):
                process.stdin.write(b"\n")
                process.stdin.flush()
                assert process.stdout.readline() == b"closed\n"
            return ioctl(fd, request)

        ioctl = fcntl.ioctl
        monkeypatch.setattr(fcntl, "ioctl", close_meanwhile)
        before = set(threading.enumerate())
        assert any([*socket_networks.other_networks(process.pid, set())])
        assert set(threading.enumerate()) - before, "the close does not wait any more"
        process.kill()


def is_lingering(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER))


def test_runs_that_have_ended_meanwhile_have_no_connections(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n")
    assert count_connections({"1.1": str(tmp_path), "1.2": "/nonexistent"}) == {}


def test_count_comes_back_into_the_network_of_the_host() -> None:
    own = Path("/proc/thread-self/ns/net").readlink()
    with having(FEW) as directory:
        count_connections({"1.1": directory})
    assert Path("/proc/thread-self/ns/net").readlink() == own


def test_kernel_that_names_no_sockets_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_sockets, "_SOCK_DIAG_BY_FAMILY", 999)
    with pytest.raises(OSError):
        connection_count.connections()
