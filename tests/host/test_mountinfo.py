"""The mounts of a process, with names of every kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sandboxd.host import mountinfo
from sandboxd.host.mountinfo import MountInfo
from sandboxd.jail import syscalls
from sandboxd.jail.chroot import own_mounts
from sandboxd.warden.doctor.trial import attempt

from ..each_case import each_case

TEXT = """\
22 1 254:1 / / rw,relatime shared:1 master:2 - ext4 /dev/vda1 rw,errors=remount-ro
31 22 0:27 / /srv/my\\040disk ro,nosuid - fuse.x\\040y my\\040source rw,user_id=0
32 22 0:28 / /run rw - tmpfs  rw,size=4k
"""


def test_mounts_are_read_with_and_without_propagation_and_with_an_empty_source() -> None:
    assert [*mountinfo.parse(TEXT)] == [
        MountInfo("22", "254:1", "/", ["rw", "relatime"], ["shared:1", "master:2"], "ext4",
                  "rw,errors=remount-ro"),
        MountInfo("31", "0:27", "/srv/my disk", ["ro", "nosuid"], [], "fuse.x y",
                  "rw,user_id=0"),
        MountInfo("32", "0:28", "/run", ["rw"], [], "tmpfs", "rw,size=4k"),
    ]  # fmt: skip


@pytest.mark.root
@each_case("name", [b"a b", b"a\\b", b"a\nb", "a\u2028b".encode(), b"a\x0cb", b"a\xffb"])
def test_mount_of_any_name_is_listed_as_it_is(tmp_path: Path, name: bytes) -> None:
    place = f"{tmp_path}/{os.fsdecode(name)}"

    def listed() -> str:
        own_mounts()
        os.mkdir(place)
        syscalls.mount("none", place, "tmpfs", 0, "size=4k")
        return json.dumps([mount.fstype for mount in mountinfo.read() if mount.point == place])

    assert json.loads(attempt(listed, 20)) == ["tmpfs"]
