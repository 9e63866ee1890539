"""Cursors in memory, and their copies on the disk for a host that boots."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from sandboxd.jail import syscalls
from sandboxd.warden import cursor_files, memory_files, runtime_directory
from sandboxd.warden.runs import run_directory
from sandboxd.warden.slots.slots import Slot
from sandboxd.warden.uid_lease import UidLease

pytestmark = pytest.mark.root


def make(run: str) -> None:
    with contextlib.ExitStack() as stack:
        slot = Slot(5, 1000005, run.rsplit("/", 2)[0], "session", UidLease(1000005, -1))
        run_directory.make(slot, int(Path(run).name), stack)


def cursor_of(run: str) -> int:
    """The descriptor of the cursor that the api gets, to be closed."""
    *others, cursor = run_directory.followers(run)
    for fd in others:
        os.close(fd)
    return cursor


def write(run: str, text: bytes) -> None:
    fd = cursor_of(run)
    os.pwrite(fd, text, 0)
    os.close(fd)


def read(run: str) -> bytes:
    fd = cursor_of(run)
    text = os.pread(fd, 99, 0)
    os.close(fd)
    return text


def in_memory(runtime: Path) -> list[str]:
    return sorted(path.name for path in runtime.glob("cursors/*/*") if path.is_file())


def boot(runtime: Path) -> None:
    """Lose what is in memory."""
    shutil.rmtree(runtime / "cursors")
    memory_files._directory.cache_clear()


def test_write_of_a_cursor_waits_for_no_disk(runtime: Path, run: str) -> None:
    make(run)
    fd = cursor_of(run)
    assert os.fstat(fd).st_dev == os.stat(runtime).st_dev
    assert os.fstat(fd).st_blocks * 512 >= cursor_files.ROOM, "a full memory takes it too"
    os.close(fd)


def test_write_of_a_cursor_would_wait_for_the_disk_where_nothing_is_in_memory(
    tmp_path: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_directory, "RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr(memory_files, "SHARED_MEMORY", str(tmp_path / "shm/sandboxd"))
    make(run)
    write(run, b"served")
    assert Path(run, "cursor").read_bytes() == b"served"


def test_cursor_is_in_shared_memory_where_run_is_on_a_disk(
    tmp_path: Path, run: str, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_directory, "RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr(memory_files, "SHARED_MEMORY", f"{runtime}/sandboxd")
    make(run)
    write(run, b"served")
    assert Path(run, "cursor").read_bytes() == b""
    cursors = runtime / "sandboxd/cursors"
    assert cursors.stat().st_mode & 0o077 == 0
    assert [path.read_bytes() for path in cursors.glob("*/5.3")] == [b"served"]


def test_directory_in_shared_memory_that_another_user_has_made_gets_no_cursor(
    tmp_path: Path, run: str, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_directory, "RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr(memory_files, "SHARED_MEMORY", f"{runtime}/sandboxd")
    os.mkdir(f"{runtime}/sandboxd")
    os.chown(f"{runtime}/sandboxd", 12345, 12345)
    make(run)
    write(run, b"served")
    assert Path(run, "cursor").read_bytes() == b"served"
    assert os.listdir(f"{runtime}/sandboxd") == []


def test_others_than_root_do_not_reach_cursors(runtime: Path, run: str) -> None:
    make(run)
    for path in (runtime / "cursors", *(runtime / "cursors").iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_next_daemon_reads_the_cursor_that_a_killed_one_wrote(
    runtime: Path, run: str, tmp_path: Path
) -> None:
    make(run)
    write(run, b"served")
    assert Path(run, "cursor").read_bytes() == b""
    memory_files.remove_unknown(str(tmp_path), [])
    assert read(run) == b"served"


def test_cursor_outlives_a_boot_from_the_copy_of_the_last_daemon(
    runtime: Path, run: str, tmp_path: Path
) -> None:
    make(run)
    began = os.stat(f"{run}/cursor").st_mtime
    write(run, b"served")
    cursor_files.save(str(tmp_path))
    boot(runtime)
    assert read(run) == b"served"
    write(run, b"more")
    cursor_files.save(str(tmp_path))
    boot(runtime)
    assert read(run) == b"moreed"
    assert os.stat(f"{run}/cursor").st_mtime >= began


def test_cursor_that_an_earlier_version_wrote_to_the_disk_counts_if_it_is_newer(
    runtime: Path, run: str
) -> None:
    make(run)
    write(run, b"served by this version")
    later = os.stat(next(runtime.glob("cursors/*/5.3"))).st_mtime_ns + 1_000_000_000
    Path(run, "cursor").write_bytes(b"and by the other")
    os.utime(f"{run}/cursor", ns=(later, later))
    assert read(run) == b"and by the other"


def test_new_run_of_a_slot_does_not_begin_with_the_cursor_of_another_session(
    runtime: Path, run: str
) -> None:
    make(run)
    write(run, b"served")
    shutil.rmtree(run)  # as with the slot, when a daemon was killed before it removed the cursor
    make(run)
    assert read(run) == b""


def test_run_that_has_lost_its_files_has_lost_its_cursor(runtime: Path, run: str) -> None:
    make(run)
    write(run, b"served")
    before = os.stat(next(runtime.glob("cursors/*/5.3"))).st_mtime_ns
    shutil.rmtree(run)
    run_directory.make_empty(run)
    os.utime(f"{run}/cursor", ns=(before + 1, before + 1))
    assert read(run) == b""


def test_full_memory_leaves_the_cursor_on_the_disk(
    runtime: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(syscalls, "fallocate", full)
    monkeypatch.setattr(cursor_files, "_copy", full)
    monkeypatch.setattr(run_directory, "_reserve", lambda *_: None)
    make(run)
    write(run, b"served")
    assert Path(run, "cursor").read_bytes() == b"served" and in_memory(runtime) == []


def test_cursors_in_memory_go_with_their_runs(runtime: Path, run: str, tmp_path: Path) -> None:
    make(run)
    assert in_memory(runtime) == ["5.3"]
    run_directory.remove(run)
    assert in_memory(runtime) == []
    make(run)
    shutil.rmtree(run)
    cursor_files.save(str(tmp_path))
    assert not os.path.exists(run)
    memory_files.remove_unknown(str(tmp_path), [])
    assert in_memory(runtime) == []
    make(run)
    memory_files.remove_all(str(tmp_path))
    assert list(runtime.glob("cursors/*")) == []
