"""The directory of a run."""

from __future__ import annotations

import contextlib
from pathlib import Path

from sandboxd.jail.cgroup import Group
from sandboxd.warden.runs import run_directory


def test_what_must_be_written_on_a_full_disk_has_its_room_from_the_start(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        run_directory.make(str(tmp_path / "1"), Group({}), stack)
        for name, room in (
            ("journal", run_directory.JOURNAL_ROOM),
            ("cursor", run_directory.CURSOR_ROOM),
        ):
            found = (tmp_path / "1" / name).stat()
            assert found.st_size == 0 and found.st_blocks * 512 >= room
        assert not run_directory.began(str(tmp_path / "1"))
