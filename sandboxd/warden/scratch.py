"""A session's writable area: a file system of its own size, so the kernel enforces the limit.

kind "image" is a sparse ext4 file on a loop device (loop(4)). A file system that is full is
full for its session alone; deleting the session is one unlink, however many files it made; and
no byte of it can be a host's file, so no hard link leads out. A blank image is made once per
size and copied, which is cheaper than mkfs. kind "tmpfs" is for hosts without loop devices.

In a scratch:   work/   /home/work         tmp/   /tmp         stage/   uploads on their way

The mount is in the warden's own mount namespace: the host's mount table stays as it was, and
if the warden is killed the kernel takes the mount and, by LO_FLAGS_AUTOCLEAR, the loop device.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import struct
import subprocess
from pathlib import Path

from ..config import Scratch
from ..errors import StageError
from ..jail import syscalls
from ..jail.stage import expect, stage

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOATIME
INBOXES = 16
"""Places for uploads on their way, of which a file helper takes one; made in advance, since a
full scratch has no room for a directory and must still be listed and downloaded."""

DIRECTORIES = {"work": 0o755, "tmp": 0o1777, "stage": 0o700} | {
    f"stage/{number}": 0o700 for number in range(INBOXES)
}


class ScratchMaker:
    """Makes, mounts and removes the scratches of one daemon."""

    def __init__(self, config: Scratch, state_dir: str) -> None:
        self._config = config
        self._blanks = f"{state_dir}/blank"
        os.makedirs(self._blanks, mode=0o700, exist_ok=True)

    def make(self, slot_path: str, uid: int, size: int, inodes: int) -> None:
        """Make and mount the scratch of a new slot, its directories owned by `uid`."""
        with stage("scratch"):
            if self._config.kind == "image":
                self._copy_blank(f"{slot_path}/image", size, inodes)
            self.mount(slot_path, size, inodes)
            for name, mode in DIRECTORIES.items():
                path = f"{slot_path}/scratch/{name}"
                os.mkdir(path)
                os.chown(path, uid, uid)
                os.chmod(path, mode)

    def mount(self, slot_path: str, size: int, inodes: int) -> None:
        """Mount the scratch of a slot that has one; read back that it is one, of its size."""
        target = f"{slot_path}/scratch"
        with stage("scratch"):
            if self._config.kind == "tmpfs":
                options = f"size={size},nr_inodes={inodes},mode=755"
                syscalls.mount("none", target, "tmpfs", _FLAGS, options)
            else:
                device, fd = _attach(f"{slot_path}/image")
                try:
                    syscalls.mount(device, target, "ext4", _FLAGS, "noinit_itable,discard")
                finally:
                    os.close(fd)  # the mount holds the device now; the last holder frees it
            expect("scratch", f"{target} is a mount", os.path.ismount(target), True)
            found = os.statvfs(target)
            expect("scratch", "size", found.f_blocks * found.f_frsize <= size, True)

    def unmount(self, slot_path: str) -> None:
        """Take the scratch of a slot away, from under whoever may still use it."""
        try:
            syscalls.umount2(f"{slot_path}/scratch", syscalls.MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # it was not mounted
                raise StageError.of("scratch", error) from error

    def _copy_blank(self, image: str, size: int, inodes: int) -> None:
        """A fresh image at `image`, copied from the blank of its size."""
        blank = f"{self._blanks}/{size}-{inodes}.ext4"
        if not os.path.exists(blank):
            _make_blank(blank, size, inodes)
        with open(blank, "rb") as source, open(image, "xb") as copy:
            _copy_sparse(source.fileno(), copy.fileno(), size)

    def remove(self) -> None:
        """Remove the blanks."""
        shutil.rmtree(self._blanks, ignore_errors=True)


def _make_blank(path: str, size: int, inodes: int) -> None:
    """An empty ext4 of `size` bytes, nothing reserved for root, a small journal."""
    fresh = f"{path}.new"
    with open(fresh, "wb") as file:
        file.truncate(size)
    command = [
        "mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(inodes), "-J", "size=4",
        "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0", fresh,
    ]  # fmt: skip
    path_of_tools = "/usr/sbin:/sbin:/usr/bin:/bin"
    try:
        made = subprocess.run(
            command, env={"PATH": path_of_tools}, stdin=subprocess.DEVNULL, capture_output=True
        )
    except FileNotFoundError:
        raise StageError("scratch", "mkfs.ext4 is missing; install e2fsprogs") from None
    if made.returncode != 0:
        raise StageError("scratch", f"mkfs.ext4: {made.stderr.decode(errors='replace').strip()}")
    os.rename(fresh, path)


def _copy_sparse(source: int, copy: int, size: int) -> None:
    """Copy `size` bytes, holes staying holes (lseek(2), SEEK_DATA)."""
    os.ftruncate(copy, size)
    offset = 0
    while True:
        try:
            offset = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(source, offset, os.SEEK_HOLE)
        while offset < end:
            offset += os.copy_file_range(source, copy, end - offset, offset, offset)


def _attach(image: str) -> tuple[str, int]:
    """A loop device on `image`: its path, and a descriptor that keeps it until it is mounted.

    A run that outlived its warden keeps the old device; a second one on the same image would
    ruin the file system, so the old one is used again.
    """
    if device := _attached(image):
        return device, os.open(device, os.O_RDWR | os.O_CLOEXEC)
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, _loop_config(backing))
                return device, fd
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:  # somebody else was faster: take the next one
                    raise
    finally:
        os.close(backing)
        os.close(control)


def _attached(image: str) -> str | None:
    """The loop device that has `image` already."""
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            if Path(path).read_text().strip() == image:
                return f"/dev/{path.split('/')[3]}"
        except OSError:
            continue  # just detached
    return None


def _loop_config(backing: int) -> bytes:
    """struct loop_config (linux/loop.h): fd, block size, struct loop_info64, reserved.

    In loop_info64 only lo_flags is set, after five 64-bit and three 32-bit fields.
    """
    info = struct.pack("QQQQQIIII", 0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR).ljust(232, b"\0")
    return struct.pack("II", backing, 0) + info + bytes(64)
