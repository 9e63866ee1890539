"""The sockets of shims: where they are, who reaches them, and what a later daemon sees of them."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.warden import memory_files, runtime_directory
from sandboxd.warden.runs import control_socket, run_directory

pytestmark = pytest.mark.root


def sockets(top: Path) -> list[str]:
    return sorted(path.name for path in top.rglob("*") if path.is_socket())


@pytest.fixture
def no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_directory, "RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr(memory_files, "SHARED_MEMORY", str(tmp_path / "shm/sandboxd"))


@pytest.fixture
def directory(run: str) -> Iterator[str]:
    os.mkdir(run)
    yield run


def reaches(listener: socket.socket, path: str) -> bool:
    """A connection to the run at `path` arrives at the listener."""
    client = control_socket.connect(path)
    if client is None:
        return False
    with client, listener.accept()[0]:
        return True


def test_run_makes_no_new_file_on_the_disk_for_its_socket(runtime: Path, directory: str) -> None:
    with control_socket.listen(directory) as listener:
        assert sockets(runtime) == ["5.3.control"] and os.listdir(directory) == []
        assert reaches(listener, directory)


def test_others_than_root_do_not_reach_the_socket_of_a_shim(runtime: Path, directory: str) -> None:
    with control_socket.listen(directory):
        (path,) = runtime.glob("cursors/*/*.control")
        for above in (path.parent, path.parent.parent):
            status = above.stat()
            assert status.st_uid == 0 and stat.S_IMODE(status.st_mode) & 0o077 == 0


@pytest.mark.usefixtures("no_memory")
def test_socket_is_on_the_disk_where_nothing_is_in_memory(directory: str) -> None:
    with control_socket.listen(directory) as listener:
        assert os.listdir(directory) == ["control"] and reaches(listener, directory)


def test_socket_is_on_the_disk_where_its_directory_in_memory_is_gone(
    runtime: Path, directory: str
) -> None:
    place = memory_files.path_of(directory)
    assert place
    os.rmdir(os.path.dirname(place))
    with control_socket.listen(directory) as listener:
        assert os.listdir(directory) == ["control"] and reaches(listener, directory)


@pytest.mark.usefixtures("runtime")
def test_shim_of_an_earlier_version_is_adopted_from_the_disk(directory: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{directory}/control")
        listener.listen(8)
        assert reaches(listener, directory)
        shim = control_socket.living(directory, os.getuid())
        assert shim is not None and shim[0] == os.getpid()
        os.close(shim[1])


def test_socket_that_a_killed_daemon_left_does_not_stand_in_the_way(
    runtime: Path, directory: str
) -> None:
    control_socket.listen(directory).close()
    assert sockets(runtime) == ["5.3.control"]
    assert control_socket.living(directory, os.getuid()) is None
    with control_socket.watch(directory) as over:
        assert over.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        control_socket.send(directory, {"op": "limit"})
    with control_socket.listen(directory) as listener:
        assert reaches(listener, directory)


def test_socket_whose_path_is_longer_than_its_name_may_be_works(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    deep = runtime / ("long" * 30)
    deep.mkdir()
    monkeypatch.setattr(runtime_directory, "RUNTIME", str(deep))
    with control_socket.listen(run) as listener:
        assert sockets(deep) == ["5.3.control"] and reaches(listener, run)


def test_sockets_go_with_their_runs_and_with_slots_that_no_session_has(
    runtime: Path, directory: str, tmp_path: Path
) -> None:
    with control_socket.listen(directory):
        memory_files.remove_unknown(str(tmp_path), [4])
        assert sockets(runtime) == ["5.3.control"]
        memory_files.remove_unknown(str(tmp_path), [5])
        assert sockets(runtime) == []
    with control_socket.listen(directory):
        run_directory.remove(directory)
        assert sockets(runtime) == []
    with control_socket.listen(directory):  # its directory is gone
        memory_files.remove_unknown(str(tmp_path), [])
        assert sockets(runtime) == []


@pytest.mark.usefixtures("runtime")
def test_shim_whose_socket_is_full_is_adopted_once_it_takes_connections(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(control_socket.listen(directory))
        with pytest.raises(BlockingIOError):
            while True:
                control_socket.send(directory, {"op": "limit"})
        monkeypatch.setattr(time, "sleep", lambda _: stack.enter_context(listener.accept()[0]))
        shim = control_socket.living(directory, os.getuid())
        assert shim is not None and shim[0] == os.getpid()
        os.close(shim[1])
