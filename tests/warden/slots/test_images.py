"""Images on loop devices: an image is never on two, also after the end of the first mounter."""

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
