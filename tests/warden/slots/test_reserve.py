"""Room on the disk that is put by for a start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxd.warden.slots import reserve


def test_reserve_of_which_a_part_is_half_made_is_made_up(tmp_path: Path) -> None:
    (tmp_path / "reserve").mkdir()
    (tmp_path / "reserve" / "3").touch()  # who made it was killed, or the disk was full
    reserve.keep(str(tmp_path))
    found = [path.stat() for path in (tmp_path / "reserve").iterdir()]
    assert len(found) == reserve.FILES
    assert all(one.st_blocks * 512 >= reserve.SIZE for one in found)


def test_reserve_is_given_up_when_there_is_no_more_room_than_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve.keep(str(tmp_path))
    assert not reserve.release(str(tmp_path))
    monkeypatch.setattr(reserve, "_room", lambda *_: False)
    assert reserve.release(str(tmp_path))
    assert os.listdir(tmp_path / "reserve") == []
    reserve.keep(str(tmp_path))
    assert os.listdir(tmp_path / "reserve") == []
