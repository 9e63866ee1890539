"""Files in memory."""

from __future__ import annotations

import os

import pytest

from sandboxd.host.tmpfs import is_in_memory

MEMORY = "/dev/shm"


@pytest.mark.skipif(not os.path.isdir(MEMORY), reason=f"this host has no {MEMORY}")
def test_only_a_file_of_a_tmpfs_is_in_memory_by_its_path_and_by_its_descriptor() -> None:
    for path, expected in ((MEMORY, True), ("/proc", False)):
        fd = os.open(path, os.O_PATH)
        assert (is_in_memory(path), is_in_memory(fd)) == (expected, expected)
        os.close(fd)


def test_file_that_is_not_there_is_not_in_memory() -> None:
    assert not is_in_memory("/proc/none") and not is_in_memory(-1)
