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
from sandboxd.warden.slots.leases import Slot
from sandboxd.warden.uid_lease import UidLease


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


@pytest.mark.parametrize("earlier", [0, 1], ids=["new", "recycled"])
def test_journal_and_cursor_have_their_room_on_the_disk_from_the_start(
    slot: Slot, earlier: int
) -> None:
    for _ in range(earlier):
        complete(slot, 1)
        run_directory.forget(slot, 1)
    path = make(slot, 2)
    for name, room in (("journal", run_directory.JOURNAL_ROOM), ("cursor", cursor_files.ROOM)):
        status = (path / name).stat()
        assert status.st_size == 0 and status.st_blocks * 512 >= room
    assert not run_directory.began(str(path))


def test_forgotten_run_leaves_nothing_for_the_run_that_gets_its_directory(slot: Slot) -> None:
    inode = complete(slot, 1).stat().st_ino
    run_directory.forget(slot, 1)
    assert names(slot) == {"spare-1"} and run_directory.numbers(slot.path) == []
    assert all(path.stat().st_size == 0 for path in Path(slot.path, "runs/spare-1").iterdir())
    path = make(slot, 2)
    assert path.stat().st_ino == inode and names(slot) == {"2"}
    assert run_directory.group(str(path)).dirs == {}  # until the groups of this run are noted
    assert all(path.joinpath(name).read_bytes() == b"" for name in ("console", "journal", "cursor"))
    assert not slot.spare_runs


def test_run_that_goes_on_is_emptied_when_it_is_over(slot: Slot) -> None:
    path = complete(slot, 1)
    slot.runs[1] = 4711
    run_directory.forget(slot, 1)
    assert (path / "journal").stat().st_size
    run_directory.ended(slot, 1)
    assert names(slot) == {"spare-1"} and not slot.forgotten


def test_no_more_than_a_bounded_number_of_directories_wait(slot: Slot) -> None:
    runs = range(1, run_directory.SPARES_MAX + 4)
    for run in runs:
        complete(slot, run)
    for run in runs:
        run_directory.forget(slot, run)
    assert len(names(slot)) == len(slot.spare_runs) == run_directory.SPARES_MAX


def test_directory_that_is_not_complete_is_removed(slot: Slot) -> None:
    os.unlink(complete(slot, 1) / "control")
    run_directory.forget(slot, 1)
    os.mkdir(slot.run_path(2))
    run_directory.forget(slot, 2)
    run_directory.forget(slot, 3)
    assert names(slot) == set() and not slot.spare_runs


def test_next_daemon_removes_the_directories_that_wait(slot: Slot) -> None:
    complete(slot, 1)
    complete(slot, 2)
    run_directory.forget(slot, 1)
    run_directory.remove_spares(slot.path)
    assert names(slot) == {"2"}
