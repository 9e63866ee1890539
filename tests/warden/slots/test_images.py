"""Images on loop devices: an image is never on two, also after the end of the first mounter."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.config.settings import ScratchConfig
from sandboxd.errors import StageError
from sandboxd.host import procfs
from sandboxd.jail import syscalls
from sandboxd.warden.slots import flush, images, reclaim, scratch
from sandboxd.warden.slots.host_resources import Loop, loops

from ...waiting import until

SIZE = 16 << 20
MIB = 1 << 20


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
    assert os.listdir(tmp_path / "blank") == [f"{SIZE}-64-tree.ext4"], "the blank itself is good"


def written(device: str) -> int:
    """The bytes that were written to a loop device so far (Documentation/block/stat)."""
    return int(Path(f"/sys/block/{os.path.basename(device)}/stat").read_text().split()[6]) * 512


@pytest.fixture
def dirty(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A detached file system with 64 MiB that are not on the disk: its device, and its root."""
    path = tmp_path / "slots" / "1"
    (path / "scratch").mkdir(parents=True)
    images.make(str(path / "image"), 256 * MIB, 64)
    images.mount(str(path / "image"), str(path / "scratch"))
    try:
        attached = images._attached(str(path / "image"))
        assert attached is not None
        os.close(attached[1])
        (path / "scratch" / "file").write_bytes(bytes(64 * MIB))
        root = images.detach(str(path / "scratch"))
        assert root is not None
        yield attached[0], root
    finally:
        images.unmount(str(path / "scratch"))
        until(lambda: not images.attached(str(path / "image")))


@pytest.mark.parametrize("forgets", [True, False])
def test_data_that_is_about_to_be_removed_is_written_only_where_it_is_not_forgotten(
    dirty: tuple[str, int], forgets: bool
) -> None:
    device, root = dirty
    before = written(device)
    if forgets:
        images.forget(root)
    os.close(root)
    if forgets:
        assert written(device) - before < images.FORGET_MIN
    else:
        until(lambda: written(device) - before >= 64 * MIB)


@pytest.mark.parametrize("has_session", [True, False])
def test_slot_that_a_session_has_on_record_does_not_lose_its_data(
    dirty: tuple[str, int], tmp_path: Path, has_session: bool
) -> None:
    device, root = dirty
    if has_session:
        (tmp_path / "slots" / "1" / "session").write_text("a session")
    before = written(device)
    reclaim._forget(str(tmp_path / "slots" / "1"), root)
    os.close(root)
    if has_session:
        until(lambda: written(device) - before >= 64 * MIB)
    else:
        assert written(device) - before < images.FORGET_MIN


def test_record_of_the_end_is_on_the_disk_before_data_is_forgotten(
    dirty: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts: list[str] = []
    monkeypatch.setattr(flush, "directory", lambda path: acts.append(f"flush {path}"))
    monkeypatch.setattr(images, "forget", lambda _: acts.append("forget"))
    path = str(tmp_path / "slots" / "1")
    reclaim._forget(path, dirty[1])
    os.close(dirty[1])
    assert acts == [f"flush {path}", "forget"]


def test_data_stays_where_the_record_of_the_end_cannot_be_written(
    dirty: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(flush, "directory", full)
    before = written(dirty[0])
    reclaim._forget(str(tmp_path / "slots" / "1"), dirty[1])
    os.close(dirty[1])
    until(lambda: written(dirty[0]) - before >= 64 * MIB)


def test_folder_of_a_session_that_ends_is_written_and_only_its_scratch_is_forgotten(
    dirty: tuple[str, int], tmp_path: Path
) -> None:
    device, root = dirty
    before = written(device)
    reclaim.reclaim(str(tmp_path), 7, 1_999_999_999, [root])
    until(lambda: written(device) - before >= 64 * MIB)


def test_image_is_detached_only_while_no_device_and_no_process_has_it(image: str) -> None:
    assert images.is_detached(image)
    with open(image, "rb"):
        assert not images.is_detached(image)
    _, fd = images._attach(image)
    assert not images.is_detached(image)
    os.close(fd)
    until(lambda: images.is_detached(image))
    assert not images.is_detached(f"{image}.gone")


def test_device_of_a_detached_image_is_looked_for_on_no_list(
    image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host with a thousand sessions has a thousand devices."""
    monkeypatch.setattr(images, "devices", lambda: pytest.fail("every device is looked at"))
    _, fd = images._attach(image)
    os.close(fd)
    until(lambda: images.is_detached(image))


def test_reader_of_an_image_does_not_end_a_process_that_looks_whether_it_is_detached(
    image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel sends a signal to the holder of a lease that another process breaks; SIGIO, the
    default one, would end the holder."""
    close = os.close

    def open_before_close(fd: int) -> None:
        reader = os.fork()
        if reader == 0:
            try:
                os.open(image, os.O_RDONLY | os.O_NONBLOCK)  # breaks the lease, fails with EAGAIN
            finally:
                os._exit(0)
        os.waitpid(reader, 0)
        close(fd)

    monkeypatch.setattr(os, "close", open_before_close)
    assert images.is_detached(image)


def test_reclaim_of_a_slot_looks_at_no_other_process_and_no_other_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full host has thousands of both, and the work for one session must not grow with them."""
    path = tmp_path / "slots" / "1"
    (path / "scratch").mkdir(parents=True)
    images.make(str(path / "image"), SIZE, 64)
    images.mount(str(path / "image"), str(path / "scratch"))
    device = images._attached(str(path / "image"))
    assert device is not None
    held, sleep = [device[1]], time.sleep  # as udev has a new device open for a moment

    def pause(seconds: float) -> None:
        if held:
            os.close(held.pop())
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(procfs, "pids", lambda: pytest.fail("/proc is walked"))
    monkeypatch.setattr(images, "devices", lambda: pytest.fail("every device is looked at"))
    assert not reclaim.reclaim(str(tmp_path), 1, 1_999_999_999)
    assert not held, "the device was not waited for"
    assert os.listdir(tmp_path / "slots") == []


def test_reclaim_of_a_slot_can_be_done_again_and_finds_a_device_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run that outlives its warden keeps one."""
    path = tmp_path / "slots" / "1"
    path.mkdir(parents=True)
    images.make(str(path / "image"), SIZE, 64)
    device, fd = images._attach(str(path / "image"))
    monkeypatch.setattr(reclaim, "PATIENCE_S", 0)
    for _ in range(2):
        left = reclaim.reclaim(str(tmp_path), 1, 1_999_999_999)
        assert left.things == [device] and not path.exists()
    os.close(fd)
    until(lambda: not reclaim.reclaim(str(tmp_path), 1, 1_999_999_999))


def test_blank_has_the_directories_of_a_scratch(tmp_path: Path) -> None:
    maker = scratch.ScratchMaker(ScratchConfig(), str(tmp_path))
    slot = tmp_path / "slot"
    (slot / "scratch").mkdir(parents=True)
    maker.make(str(slot), 65534, SIZE, 64)
    try:
        assert os.listdir(tmp_path / "blank") == [f"{SIZE}-64-tree.ext4"]
        for name, mode in scratch.DIRECTORIES.items():
            status = (slot / "scratch" / name).stat()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (65534, 65534, mode)
    finally:
        maker.unmount(str(slot))
