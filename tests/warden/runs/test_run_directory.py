"""The directory of a run: what is written there on a full disk has its room, and nothing of an
earlier run is there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from sandboxd.jail.cgroup import Group
from sandboxd.warden import cursor_files
from sandboxd.warden.runs import run_directory
from sandboxd.warden.runs.emptied_directories import EMPTIED_MAX, EmptiedDirectories
from sandboxd.warden.slots.slots import Slot
from sandboxd.warden.uid_lease import UidLease

from ...background_jobs import LooplessJobs

ASIDE = "set-aside-session-"


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    (tmp_path / "slots/5/runs").mkdir(parents=True)
    return Slot(5, 1000005, str(tmp_path / "slots/5"), "session", UidLease(1000005, -1))


def make(slot: Slot, run: int) -> Path:
    with contextlib.ExitStack() as stack:
        run_directory.make(slot, run, stack)
    return Path(slot.run_path(run))


def complete(slot: Slot, run: int) -> Path:
    """The directory of a run that has printed and is over."""
    path = make(slot, run)
    run_directory.note(str(path), Group({"": f"/group/{run}"}))
    for name in ("console", "journal", "cursor"):
        (path / name).write_text(f"secret of run {run}\n" * 5000)
    return path


def names(slot: Slot) -> set[str]:
    return set(os.listdir(f"{slot.path}/runs"))


class Directories(EmptiedDirectories):
    """Those of a warden without a loop."""

    def __init__(self) -> None:
        self.jobs = LooplessJobs()
        super().__init__(self.jobs)


@pytest.fixture
def directories() -> Directories:
    return Directories()


@pytest.mark.parametrize("earlier", [0, 1], ids=["new", "recycled"])
def test_journal_and_cursor_have_their_room_on_the_disk_from_the_start(
    slot: Slot, directories: Directories, earlier: int
) -> None:
    for _ in range(earlier):
        complete(slot, 1)
        directories.forget(slot, [1])
        directories.jobs.finish()
    path = make(slot, 2)
    for name, room in (("journal", run_directory.JOURNAL_ROOM), ("cursor", cursor_files.ROOM)):
        status = (path / name).stat()
        assert status.st_size == 0 and status.st_blocks * 512 >= room
    assert not run_directory.began(str(path))


def test_forgotten_run_leaves_nothing_for_the_run_that_gets_its_directory(
    slot: Slot, directories: Directories
) -> None:
    inode = complete(slot, 1).stat().st_ino
    directories.forget(slot, [1])
    directories.jobs.finish()
    assert names(slot) == {ASIDE + "1"} and run_directory.numbers(slot.path) == []
    files = Path(slot.path, "runs", ASIDE + "1").iterdir()
    assert {file.read_text() for file in files} == {"", "{}"}
    path = make(slot, 2)
    assert path.stat().st_ino == inode and names(slot) == {"2"}
    assert run_directory.group(str(path)).dirs == {}  # until the groups of this run are noted
    assert all(path.joinpath(name).read_bytes() == b"" for name in ("console", "journal", "cursor"))
    assert not slot.emptied_runs


def test_loop_frees_no_disk_itself_and_gives_no_run_a_directory_that_is_not_empty(
    slot: Slot, directories: Directories
) -> None:
    complete(slot, 1)
    directories.forget(slot, [1])
    assert run_directory.numbers(slot.path) == []
    assert Path(slot.path, "runs", ASIDE + "1", "console").stat().st_size
    inode = make(slot, 2).stat().st_ino
    assert inode != Path(slot.path, "runs", ASIDE + "1").stat().st_ino
    directories.jobs.finish()
    assert make(slot, 3).stat().st_ino != inode and names(slot) == {"2", "3"}


def test_run_that_goes_on_is_emptied_when_it_is_over(slot: Slot, directories: Directories) -> None:
    path = complete(slot, 1)
    slot.runs[1] = 4711
    directories.forget(slot, [1])
    directories.jobs.finish()
    assert (path / "journal").stat().st_size
    directories.ended(slot, 1)
    directories.jobs.finish()
    assert names(slot) == {ASIDE + "1"} and not slot.forgotten


@pytest.mark.parametrize("together", [True, False])
def test_no_more_than_a_bounded_number_of_directories_wait(
    slot: Slot, directories: Directories, together: bool
) -> None:
    runs = range(1, EMPTIED_MAX + 4)
    for run in runs:
        complete(slot, run)
    for batch in [runs] if together else [[run] for run in runs]:
        directories.forget(slot, batch)
    directories.jobs.finish()
    assert len(names(slot)) == len(slot.emptied_runs) == EMPTIED_MAX and not slot.emptied_due


def test_directory_that_is_not_complete_is_removed(slot: Slot, directories: Directories) -> None:
    os.unlink(complete(slot, 1) / "journal")
    os.mkdir(slot.run_path(2))
    directories.forget(slot, [1, 2, 3])
    directories.jobs.finish()
    assert names(slot) == set() and not slot.emptied_runs


def test_next_daemon_removes_the_directories_that_wait(
    slot: Slot, directories: Directories
) -> None:  # fmt: skip
    complete(slot, 1)
    complete(slot, 2)
    directories.forget(slot, [1])
    directories.jobs.finish()
    Path(slot.path, "runs", "spare-session-3").mkdir()  # of an earlier version
    run_directory.remove_set_aside(slot.path)
    assert names(slot) == {"2"}
