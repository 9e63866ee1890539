"""Images on loop devices: an image is never on two, also after the end of the first mounter."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.config import ScratchConfig
from sandboxd.errors import StageError
from sandboxd.jail import syscalls
from sandboxd.warden.leaks.rule import Loop
from sandboxd.warden.leaks.scan import loops
from sandboxd.warden.slots import images, scratch

SIZE = 16 << 20


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """An empty image."""
    (tmp_path / "slots" / "0").mkdir(parents=True)
    path = str(tmp_path / "slots" / "0" / "image")
    images.make(path, SIZE, 64)
    yield path
    assert images._attached(path) is None


def name(device: str) -> str:
    """The image of a loop device, as the kernel shows it here."""
    return Path(f"/sys/block/{os.path.basename(device)}/loop/backing_file").read_text().strip()


def attach_in_a_namespace_of_its_own(image: str, state: str) -> int:
    """A descriptor of a loop device on `image`, which it keeps as a run's mount does. The process
    that attached it is gone, and so is its mount namespace, in which `state` was a mount."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount(state, state, None, syscalls.MS_BIND)
            socket.send_fds(theirs, [b"."], [images._attach(image)[1]])
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    with ours:
        _, (fd, *_), _, _ = socket.recv_fds(ours, 1, 1)
    assert os.waitpid(pid, 0)[1] == 0
    return fd


def test_image_that_an_earlier_warden_has_attached_in_another_namespace_is_recognized(
    image: str, tmp_path: Path
) -> None:
    earlier = attach_in_a_namespace_of_its_own(image, str(tmp_path))
    try:
        attached = images._attached(image)
        assert attached is not None, "it would be on two devices, and ruined"
        device, fd = attached
        assert name(device) == "/slots/0/image", "else this test shows nothing"
        assert os.fstat(fd).st_rdev == os.fstat(earlier).st_rdev
        os.close(fd)
        assert Loop(device, "/slots/0/image") in list(loops(str(tmp_path)))
        assert not list(loops(str(tmp_path / "elsewhere")))
        os.unlink(image)  # as when a session is deleted while a process holds its device
        assert Loop(device, "/slots/0/image") in list(loops(str(tmp_path)))
        images.make(image, SIZE, 64)
        assert images._attached(image) is None, "a new image of that name is another"
    finally:
        os.close(earlier)


def test_image_of_another_state_directory_is_not_mistaken_for_one_of_the_same_name(
    image: str, tmp_path: Path
) -> None:
    (tmp_path / "other" / "0").mkdir(parents=True)
    other = str(tmp_path / "other" / "0" / "image")
    images.make(other, SIZE, 64)
    _, fd = images._attach(other)
    assert images._attached(image) is None
    os.close(fd)


@pytest.mark.parametrize(
    ("size", "inodes"), [(SIZE, 8192), (SIZE, 64), (2 * SIZE, 16384), (1 << 30, 65536)]
)
def test_more_than_half_of_an_image_is_for_the_content_of_files(
    tmp_path: Path, size: int, inodes: int
) -> None:
    (tmp_path / "slots" / "0").mkdir(parents=True)
    image, target = str(tmp_path / "slots" / "0" / "image"), tmp_path / "mount"
    target.mkdir()
    images.make(image, size, inodes)
    images.mount(image, str(target))
    try:
        status = os.statvfs(target)
        assert status.f_bavail * status.f_frsize > size // 2
        assert status.f_ffree >= inodes - 16
    finally:
        images.unmount(str(target))


def test_image_that_cannot_be_made_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"mkfs\.ext4"):
        images.make(str(tmp_path / "image"), SIZE, 65536)  # more inodes than it has room for
    assert os.listdir(tmp_path) == []


def test_image_whose_making_is_interrupted_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        images.make(str(tmp_path / "image"), SIZE, 64)
    assert os.listdir(tmp_path) == []


def test_host_without_mkfs_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("subprocess.run", absent)
    with pytest.raises(StageError, match="e2fsprogs"):
        images.make(str(tmp_path / "image"), SIZE, 64)
    assert os.listdir(tmp_path) == []


def test_copy_of_a_blank_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk is full."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    maker = scratch.ScratchMaker(ScratchConfig(), str(tmp_path))
    slot = tmp_path / "slot"
    (slot / "scratch").mkdir(parents=True)
    monkeypatch.setattr(images, "copy_sparse", full)
    with pytest.raises(StageError, match="scratch"):
        maker.make(str(slot), 65534, SIZE, 64)
    assert os.listdir(slot) == ["scratch"]
    assert os.listdir(tmp_path / "blank") == [f"{SIZE}-64.ext4"], "the blank itself is good"
