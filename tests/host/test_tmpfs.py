"""Files in memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sandboxd.host.tmpfs import is_in_memory, size_in_memory
from sandboxd.jail import syscalls

MEMORY = "/dev/shm"


@pytest.mark.skipif(not os.path.isdir(MEMORY), reason=f"this host has no {MEMORY}")
def test_only_a_file_of_a_tmpfs_is_in_memory_by_its_path_and_by_its_descriptor() -> None:
    for path, expected in ((MEMORY, True), ("/proc", False)):
        fd = os.open(path, os.O_PATH)
        assert (is_in_memory(path), is_in_memory(fd)) == (expected, expected)
        os.close(fd)


def test_file_that_is_not_there_is_not_in_memory() -> None:
    assert not is_in_memory("/proc/none") and not is_in_memory(-1)


@pytest.mark.root
@pytest.mark.parametrize("size", ["size=64m", "size=0"])
def test_size_in_memory_is_that_of_all_files_of_a_tmpfs(tmp_path: Path, size: str) -> None:
    assert size_in_memory(str(tmp_path)) == 0, "no tmpfs"
    syscalls.mount("none", str(tmp_path), "tmpfs", 0, size)
    try:
        before = size_in_memory(str(tmp_path))
        (tmp_path / "file").write_bytes(bytes(1 << 20))
        fd = os.open(tmp_path, os.O_PATH)
        try:
            grown = size_in_memory(fd) - before
        finally:
            os.close(fd)
        assert (before, grown) == ((0, 1 << 20) if size == "size=64m" else (sys.maxsize, 0))
    finally:
        syscalls.umount2(str(tmp_path), 0)
