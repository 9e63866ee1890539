"""The reserve: room on the disk for the start of a daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxd.warden.slots import reserve


def test_reserve_with_a_half_made_file_is_filled(tmp_path: Path) -> None:
    (tmp_path / "reserve").mkdir()
    (tmp_path / "reserve" / "3").touch()  # its maker was killed, or the disk was full
    reserve.keep(str(tmp_path))
    files = [path.stat() for path in (tmp_path / "reserve").iterdir()]
    assert len(files) == reserve.FILES
    assert all(file.st_blocks * 512 >= reserve.SIZE for file in files)


def test_reserve_is_removed_when_the_disk_has_no_room_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve.keep(str(tmp_path))
    assert not reserve.release(str(tmp_path))
    monkeypatch.setattr(reserve, "_room", lambda *_: False)
    assert reserve.release(str(tmp_path))
    assert os.listdir(tmp_path / "reserve") == []
    reserve.keep(str(tmp_path))
    assert os.listdir(tmp_path / "reserve") == []
