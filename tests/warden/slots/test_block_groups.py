"""The directories of slots are spread over the block groups of an ext4, and no other disk minds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.config.settings import SlotsConfig
from sandboxd.warden.slots import block_groups
from sandboxd.warden.slots.slots import Slots

from ...sandbox import TEST_UIDS

pytestmark = pytest.mark.root

INODES = 256
"""In a block group of the disk here."""


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A disk with 32 block groups. Larger disks have them in flexible groups of sixteen, and each
    directory gets such a group."""
    image, place = tmp_path / "image", tmp_path / "disk"
    image.touch()
    os.truncate(image, 256 << 20)
    options = ["-O", "^flex_bg", "-b", "1024", "-g", "8192", "-N", str(32 * INODES), "-I", "256"]
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, str(image)], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def groups_of(parent: Path) -> set[int]:
    """The block groups of four new directories in `parent`, with a file in each."""
    inodes = []
    for name in ("0", "1", "2", "3"):
        (parent / name).mkdir(parents=True)
        (parent / name / "session").touch()
        inodes.append((parent / name / "session").stat().st_ino)
    return {(inode - 1) // INODES for inode in inodes}


def test_each_slot_has_a_block_group_of_its_own(ext4: Path) -> None:
    slots = Slots(SlotsConfig(TEST_UIDS + 100, 4), str(ext4))
    try:
        assert len(groups_of(ext4 / "slots")) == 4
        assert len(groups_of(ext4 / "others")) == 1, "else the flag does nothing"
    finally:
        slots.close()


def test_flag_of_a_state_directory_is_set_once_and_other_flags_stay(ext4: Path) -> None:
    subprocess.run(["chattr", "+d", str(ext4)], check=True)
    for _ in range(2):
        block_groups.spread(str(ext4))
        fd = os.open(ext4, os.O_RDONLY)
        try:
            assert block_groups.flags(fd) & (block_groups.TOP | 0x40) == block_groups.TOP | 0x40
        finally:
            os.close(fd)


def test_file_system_without_block_groups_is_left_as_it_is() -> None:
    block_groups.spread("/dev/shm")
    block_groups.spread("/proc")
