"""The directory of a run: what is written there on a full disk has its room."""

from __future__ import annotations

import contextlib
from pathlib import Path

from sandboxd.warden import cursor_files
from sandboxd.warden.runs import run_directory


def test_journal_and_cursor_have_their_room_on_the_disk_from_the_start(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        run_directory.make(str(tmp_path / "1"), stack)
        for name, room in (
            ("journal", run_directory.JOURNAL_ROOM),
            ("cursor", cursor_files.ROOM),
        ):
            status = (tmp_path / "1" / name).stat()
            assert status.st_size == 0 and status.st_blocks * 512 >= room
        assert not run_directory.began(str(tmp_path / "1"))
