"""The control files of cgroups."""

from __future__ import annotations

import errno
import os

import pytest

from sandboxd.host import cgroupfs, procfs


@pytest.mark.parametrize("gone", [errno.ENOENT, errno.ENODEV])
def test_group_that_is_removed_while_it_is_read_has_no_members(
    gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: str) -> str:
        raise OSError(number, os.strerror(number), path)

    number = gone
    monkeypatch.setattr(procfs, "read", read)
    assert cgroupfs.members("/sys/fs/cgroup/7.1") == set()
    number = errno.EMFILE
    with pytest.raises(OSError):
        cgroupfs.members("/sys/fs/cgroup/7.1")
