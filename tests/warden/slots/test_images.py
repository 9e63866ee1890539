"""Images on loop devices: an image is never on two, whatever became of who attached it first."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.jail import syscalls
from sandboxd.warden.leaks.rule import Loop
from sandboxd.warden.leaks.scan import loops
from sandboxd.warden.slots import images

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
    """The image of a loop device, as the kernel tells it here."""
    return Path(f"/sys/block/{os.path.basename(device)}/loop/backing_file").read_text().strip()


def attach_in_a_namespace_of_its_own(image: str, state: str) -> int:
    """A loop device on `image`, of a process that is gone, and its mount namespace, in which
    `state` was a mount of its own. The descriptor keeps the device, as a run's mount does."""
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


def test_image_that_an_earlier_warden_has_attached_elsewhere_is_found(
    image: str, tmp_path: Path
) -> None:
    kept = attach_in_a_namespace_of_its_own(image, str(tmp_path))
    try:
        found = images._attached(image)
        assert found is not None, "it would be on two devices, and ruined"
        device, fd = found
        assert name(device) == "/slots/0/image", "else this test shows nothing"
        assert os.fstat(fd).st_rdev == os.fstat(kept).st_rdev
        os.close(fd)
        assert Loop(device, "/slots/0/image") in list(loops(str(tmp_path)))
        assert not list(loops(str(tmp_path / "elsewhere")))
        os.unlink(image)  # what a session leaves that is deleted while somebody holds its device
        assert Loop(device, "/slots/0/image") in list(loops(str(tmp_path)))
        images.make(image, SIZE, 64)
        assert images._attached(image) is None, "a new one of that name is another"
    finally:
        os.close(kept)


def test_another_image_of_the_same_name_is_not_taken_for_it(image: str, tmp_path: Path) -> None:
    (tmp_path / "other" / "0").mkdir(parents=True)
    other = str(tmp_path / "other" / "0" / "image")
    images.make(other, SIZE, 64)
    _, fd = images._attach(other)
    assert images._attached(image) is None
    os.close(fd)
