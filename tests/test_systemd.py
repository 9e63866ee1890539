"""The protocols of a service manager, spoken with a socket of the test's own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd import systemd
from sandboxd.warden import memory_files, runtime_directory, uid_lease


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket at NOTIFY_SOCKET, as systemd has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def test_each_state_is_one_datagram(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    notify = systemd.Notify(environ)
    assert environ == {}, "no child may speak in the daemon's name"
    notify.ready("2 sessions")
    notify.alive("3 sessions")
    notify.stopping("stopping")
    assert [manager.recv(999).decode() for _ in range(3)] == [
        "READY=1\nSTATUS=2 sessions",
        "WATCHDOG=1\nSTATUS=3 sessions",
        "STOPPING=1\nSTATUS=stopping",
    ]
    notify.reloading()
    first, second = manager.recv(999).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()


def test_notice_reaches_a_manager_at_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0sandboxd/test/{os.getpid()}")
        systemd.Notify({"NOTIFY_SOCKET": f"@sandboxd/test/{os.getpid()}"}).ready("")
        assert sock.recv(99) == b"READY=1\nSTATUS="


def test_manager_that_is_gone_or_does_not_read_disturbs_nothing(manager: socket.socket) -> None:
    systemd.Notify({}).ready("")
    notify = systemd.Notify({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(10_000):  # more than its queue holds
        notify.alive("")
    manager.close()
    notify.alive("")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_period_is_a_positive_number_or_none(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert systemd.watchdog_s(environ) == seconds


@pytest.mark.parametrize("pid", ["", "1", "next"])
def test_sockets_for_another_process_are_not_touched(pid: str) -> None:
    pid = str(os.getpid() + 1) if pid == "next" else pid
    environ = {"LISTEN_PID": pid, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "PATH": "/bin"}
    assert systemd.passed_sockets(environ) == []
    assert environ == {"PATH": "/bin"}


def _free_pair() -> tuple[int, int]:
    """Two numbers in a row that are no descriptors of this process, whose others stay."""
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    first = max(used) + 1
    return first, first + 1


def test_passed_sockets_are_taken_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0),
        family=socket.AF_INET6) as two:  # fmt: skip
        first, second = _free_pair()
        os.dup2(one.fileno(), first)
        os.dup2(two.fileno(), second)
        monkeypatch.setattr(systemd, "FIRST_FD", first)
        os.set_inheritable(first, True)
        sockets = systemd.passed_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"})
        assert [sock.fileno() for sock in sockets] == [first, second]
        assert [sock.getsockname() for sock in sockets] == [one.getsockname(), two.getsockname()]
        assert not any(os.get_inheritable(sock.fileno()) for sock in sockets)
        for sock in sockets:
            sock.close()


def test_unit_makes_directories_of_leases_and_cursors_for_root_alone_and_leaves_them() -> None:
    """The daemon's view of the host is read-only, and private daemons go on with the locks."""
    unit = (Path(__file__).parent.parent / "systemd/sandboxd.service").read_text().splitlines()
    top = runtime_directory.RUNTIME.removeprefix("/run/")
    parts = f"{top}/{uid_lease.LEASES} {top}/{memory_files.CURSORS}"
    for line in (
        f"RuntimeDirectory={parts}",
        "RuntimeDirectoryMode=0700",
        "RuntimeDirectoryPreserve=yes",
        "ProtectSystem=strict",
    ):
        assert line in unit


def test_service_without_workspaces_needs_no_drop_in() -> None:
    assert systemd.workspaces_dropin(()) == ""


def test_drop_in_opens_the_paths_of_workspaces_and_no_other_home() -> None:
    lines = systemd.workspaces_dropin(("/srv/b", "/home/ci/b", "/homes", "/root")).splitlines()
    assert lines[1:] == [
        "[Service]", 'ReadWritePaths="-/srv/b"', 'ReadWritePaths="-/home/ci/b"',
        'ReadWritePaths="-/homes"', 'ReadWritePaths="-/root"', "ProtectHome=tmpfs",
        "TemporaryFileSystem=/home:ro /run/user:ro", 'BindPaths="-/home/ci/b"',
        'BindPaths="-/root"',
    ]  # fmt: skip
    assert "ProtectHome" not in systemd.workspaces_dropin(("/srv/b",))


def test_path_of_workspaces_is_one_word_of_the_drop_in_whatever_is_in_it() -> None:
    text = systemd.workspaces_dropin(('/srv/a "b" %h \\x',))
    assert 'ReadWritePaths="-/srv/a \\"b\\" %%h \\\\x"' in text
