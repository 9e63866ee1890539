"""Images: file systems in a file, a sparse ext4 on a loop device (loop(4)).

The kernel enforces an image's size on every writer. One unlink removes an image, however many files
it has. No byte of it can belong to a file of the host, so no hard link leads out. Each session
(scratch.py) and each folder (folders.py) has one.

The loop device frees itself (LO_FLAGS_AUTOCLEAR) when its last mount is gone, in any process. So
the kernel takes mount and device back if the warden is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import struct
import subprocess
from collections.abc import Iterator

from ...errors import StageError
from ...host import procfs
from ...jail import syscalls
from ...jail.stage import expect, stage

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE, _LOOP_GET_STATUS64 = 0x4C82, 0x4C0A, 0x4C05
_LO_FLAGS_AUTOCLEAR = 4
_F_SETSIG = 10
"""Of fcntl(2); the module fcntl has no name for it."""
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
FORGET_MIN = 4 << 20
"""Bytes that are written at the end of a session, wanted or not."""

_IMAGE = re.compile(r"(.*)(/(?:slots|folders)/[^/]+/image)( \(deleted\))?")
FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOATIME
OPTIONS = "noinit_itable,discard,dioread_lock"
"""Of ext4 (Documentation/admin-guide/ext4.rst). With dioread_lock, the default before Linux 5.6,
write-back needs no reserve of the journal. A journal as small as these had none left at times: the
writer of a large file then waited for minutes, and no signal ended it (seen on 6.18)."""


def make(path: str, size: int, inodes: int, tree: str = "") -> None:
    """An ext4 of `size` bytes at `path`, nothing reserved for root, a small journal. It has a copy
    of the directory `tree`, or is empty.

    Raises StageError "image".
    """
    fresh = f"{path}.{os.getpid()}.new"  # several processes may make the same blank at once
    try:
        with stage("image"), open(fresh, "wb") as file:
            file.truncate(size)
        _make_file_system(fresh, inodes, tree)
        os.rename(fresh, path)
    except BaseException:  # also a signal that ends the process: raised again
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _make_file_system(path: str, inodes: int, tree: str) -> None:
    # Small images had inodes of 128 bytes before e2fsprogs 1.46.4: without nanoseconds, up to 2038.
    command = [
        "mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(inodes), "-I", "256", "-J", "size=4",
        "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
        *(["-d", tree] if tree else []), path,
    ]  # fmt: skip
    path_of_tools = "/usr/sbin:/sbin:/usr/bin:/bin"
    try:
        mkfs = subprocess.run(
            command, env={"PATH": path_of_tools}, stdin=subprocess.DEVNULL, capture_output=True
        )
    except FileNotFoundError:
        raise StageError("image", "mkfs.ext4 is missing; install e2fsprogs") from None
    if mkfs.returncode != 0:
        raise StageError("image", f"mkfs.ext4: {mkfs.stderr.decode(errors='replace').strip()}")


def mount(image: str, target: str) -> None:
    """Mount `image` at the directory `target`. Raises OSError."""
    device, fd = _attach(image)
    try:
        syscalls.mount(device, target, "ext4", FLAGS, OPTIONS)
    finally:
        os.close(fd)  # the mount holds the device now; the last holder frees it


def verify(target: str, size: int) -> None:
    """A file system of at most `size` bytes is mounted at `target`. Raises StageError."""
    expect("image", f"{target} is a mount", os.path.ismount(target), True)
    status = os.statvfs(target)
    expect("image", "size", status.f_blocks * status.f_frsize <= size, True)


def detach(target: str) -> int | None:
    """Take the mount at `target` away at once, also while a process uses it; None when there is no
    mount. The descriptor keeps the file system: closing the last one waits until all of it is
    written, unless `forget` was called."""
    if not os.path.ismount(target):
        return None
    with stage("image"):
        fd = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.umount2(target, syscalls.MNT_DETACH)
        except BaseException:  # the descriptor must not leak; raised again
            os.close(fd)
            raise
        return fd


def is_worth_forgetting(root: int) -> bool:
    """The file system of `root` (detach) has so much data that `forget` is worth a line of the
    kernel, which logs each shutdown as an alert."""
    status = os.fstatvfs(root)
    return (status.f_blocks - status.f_bfree) * status.f_frsize > FORGET_MIN


def forget(root: int) -> None:
    """Have the file system of `root` (detach) forget all that is not on the disk yet, so that
    closing it does not wait for data that is about to be removed. The data on the disk stays. The
    caller has the removal on record. A file system of another kind is left as it is.
    """
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):  # a tmpfs
            raise
    finally:
        os.close(fd)


def is_detached(image: str) -> bool:
    """`image` is there, and nothing has it open: no loop device, and no process. The kernel grants
    a lease for writing (fcntl(2), F_SETLEASE) only then, so no list of devices is needed. False
    also where the file system knows no leases."""
    return _lease_error(image) == 0


def is_in_use(image: str) -> bool:
    """`image` is there, and a loop device or a process has it open. After an unmount udev may still
    look at the device. False also where the file system knows no leases."""
    return _lease_error(image) == errno.EAGAIN


def _lease_error(image: str) -> int:
    """The error number of an attempt to get a lease for writing; 0: it was granted."""
    try:
        fd = os.open(image, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        return error.errno or errno.ENOENT
    try:
        # The signal to a holder whose lease is broken: SIGIO would end this process, SIGURG is
        # ignored by default.
        fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        return error.errno or errno.EINVAL
    finally:
        os.close(fd)
    return 0


def attached(image: str) -> bool:
    """A loop device has `image`: it is mounted somewhere."""
    if device := _attached(image):
        os.close(device[1])
    return device is not None


def unmount(target: str) -> None:
    """Take the mount at `target` away, also while a process uses it, and wait for the disk."""
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

    A run that outlived its warden keeps the old device. A second device on the same image would
    ruin the file system, so the old one is used again.
    """
    if attached_device := _attached(image):
        return attached_device
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
                if error.errno != errno.EBUSY:  # another process was faster: take the next one
                    raise
    finally:
        os.close(backing)
        os.close(control)


def _attached(image: str) -> tuple[str, int] | None:
    """The loop device that has `image` already: its path, and a descriptor that keeps it.

    The name of the device's file is only a hint (see `is_cut`): device number and inode decide.
    """
    if is_detached(image):
        return None
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
    """The loop devices with a file, and the name of the file as the kernel shows it.

    /proc/partitions has no device of size 0, so none of the hundreds without a file that a host may
    have from earlier days.
    """
    for line in procfs.lines("/proc/partitions"):
        name = line.rpartition(" ")[2]
        if name.startswith("loop"):
            try:
                backing = procfs.read(f"/sys/block/{name}/loop/backing_file")
            except OSError:
                continue  # just detached, or a partition of such a device
            yield f"/dev/{name}", backing.rstrip("\n")


def is_cut(above: str, state: str) -> bool:
    """`above`, the first part of the name of an image, may be an end of the path `state`.

    The kernel shows a name from the root of the mount by which the file was opened. That mount was
    in the namespace of an earlier warden. If the state directory is a mount of its own, as it is in
    the service, names begin at the state directory once that namespace is gone.
    """
    return above != state and state.endswith(above)


def below(state: str, device: str, name: str) -> str | None:
    """The image of a loop device, as a path from `state`; None if it is not below `state`."""
    match = _IMAGE.fullmatch(name)
    if not match:
        return None
    above, image, deleted = match.groups()
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
    """The loop device has `image`. It may have freed itself after its name was read."""
    status = os.stat(image)
    return _backing(device) == (status.st_dev, status.st_ino)


def _backing(device: int) -> tuple[int, int]:
    """Device number and inode of the file of a loop device; (0, 0) when it has none."""
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
