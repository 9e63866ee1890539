"""File systems in a file: a sparse ext4 image on a loop device (loop(4)).

The kernel enforces an image's size on whoever writes in it; removing one is one unlink, however
many files it has; and no byte of it can be a host's file, so no hard link leads out. Sessions
(scratch.py) and folders (folders.py) have one each.

The loop device frees itself (LO_FLAGS_AUTOCLEAR) when the last mount of it is gone, in whichever
process that is: if the warden is killed the kernel takes mount and device back.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ...errors import StageError
from ...jail import syscalls
from ...jail.stage import expect, stage

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE, _LOOP_GET_STATUS64 = 0x4C82, 0x4C0A, 0x4C05
_LO_FLAGS_AUTOCLEAR = 4
_IMAGE = re.compile(r"(.*)(/(?:slots|folders)/[^/]+/image)( \(deleted\))?")
FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOATIME


def make(path: str, size: int, inodes: int) -> None:
    """An empty ext4 of `size` bytes at `path`, nothing reserved for root, a small journal.

    Raises StageError "image".
    """
    fresh = f"{path}.{os.getpid()}.new"  # several may make the same blank at a time
    with stage("image"), open(fresh, "wb") as file:
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
        raise StageError("image", "mkfs.ext4 is missing; install e2fsprogs") from None
    if made.returncode != 0:
        raise StageError("image", f"mkfs.ext4: {made.stderr.decode(errors='replace').strip()}")
    os.rename(fresh, path)


def mount(image: str, target: str) -> None:
    """Mount `image` at the directory `target`. Raises OSError."""
    device, fd = _attach(image)
    try:
        syscalls.mount(device, target, "ext4", FLAGS, "noinit_itable,discard")
    finally:
        os.close(fd)  # the mount holds the device now; the last holder frees it


def verify(target: str, size: int) -> None:
    """A file system of at most `size` bytes is mounted at `target`. Raises StageError."""
    expect("image", f"{target} is a mount", os.path.ismount(target), True)
    found = os.statvfs(target)
    expect("image", "size", found.f_blocks * found.f_frsize <= size, True)


def detach(target: str) -> int | None:
    """Take the mount at `target` away at once, from under whoever may still use it; None when
    there is none. The descriptor keeps its file system: whoever closes the last one waits until
    all of it is written, half a second for a GiB."""
    if not os.path.ismount(target):
        return None
    with stage("image"):
        fd = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.umount2(target, syscalls.MNT_DETACH)
        except BaseException:
            os.close(fd)
            raise
        return fd


def attached(image: str) -> bool:
    """A loop device has `image`: it is mounted somewhere."""
    if kept := _attached(image):
        os.close(kept[1])
    return kept is not None


def unmount(target: str) -> None:
    """Take the mount at `target` away, from under whoever may still use it, and wait for it."""
    if (fd := detach(target)) is not None:
        os.close(fd)


def copy_sparse(source: int, copy: int, size: int) -> None:
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
    if kept := _attached(image):
        return kept
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


def _attached(image: str) -> tuple[str, int] | None:
    """The loop device that has `image` already, opened, so that it keeps it.

    Its name there is only a hint, see `is_cut`: device and inode decide.
    """
    ending = "/" + "/".join(image.split("/")[-2:])
    for device, name in devices():
        if not name.endswith(ending):
            continue
        try:
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # just detached
        if _still_has(fd, image):
            return device, fd
        os.close(fd)
    return None


def devices() -> Iterator[tuple[str, str]]:
    """The loop devices, and the names of their files as the kernel tells them."""
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            yield f"/dev/{path.split('/')[3]}", Path(path).read_text().rstrip("\n")
        except OSError:
            continue  # just detached


def is_cut(above: str, state: str) -> bool:
    """`above`, before the part of a file's name that tells what it is to us, can be an end of
    `state`.

    The kernel tells a name from the root of the mount by which the file was opened. That was one
    of an earlier warden's namespace, and if the state directory is a mount of its own, as it is
    in the service, names begin there once that namespace is gone.
    """
    return above != state and state.endswith(above)


def below(state: str, device: str, name: str) -> str | None:
    """The image that a loop device has, as a path from `state`; None, if it is none of there."""
    found = _IMAGE.fullmatch(name)
    if not found:
        return None
    above, image, deleted = found.groups()
    if above == state:
        return str(image)
    if not is_cut(above, state):
        return None
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if deleted:  # only its file system can be compared
                ours = _backing(fd)[0] == os.stat(state).st_dev
            else:
                ours = _still_has(fd, state + image)
            return str(image) if ours else None
        finally:
            os.close(fd)
    except OSError:  # the device was just detached, or there is no such image here
        return None


def _still_has(device: int, image: str) -> bool:
    """The loop device did not free itself between the look at its name and its opening."""
    wanted = os.stat(image)
    return _backing(device) == (wanted.st_dev, wanted.st_ino)


def _backing(device: int) -> tuple[int, int]:
    """Device and inode of the file that a loop device has; (0, 0) for none."""
    try:
        status = fcntl.ioctl(device, _LOOP_GET_STATUS64, bytes(232))
    except OSError:  # ENXIO: free
        return 0, 0
    number, inode = struct.unpack_from("QQ", status)
    return number, inode


def _loop_config(backing: int) -> bytes:
    """struct loop_config (linux/loop.h): fd, block size, struct loop_info64, reserved.

    In loop_info64 only lo_flags is set, after five 64-bit and three 32-bit fields.
    """
    info = struct.pack("QQQQQIIII", 0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR).ljust(232, b"\0")
    return struct.pack("II", backing, 0) + info + bytes(64)
