"""The system calls that Python does not offer, named as in their man pages.

Three other modules use ctypes, for one function or buffer each: jail/network.py, host/tmpfs.py and
api/freed_memory.py. Each function of libc has the types of its man page, so that no argument is cut
to an int. Each wrapper takes and returns plain values, and raises OSError with errno and, where
there is one, the path. Numbers newer than 423 are the same on every architecture (asm-generic).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterable
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong, c_void_p
from functools import cache, partial
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV = 0x2, 0x4
MS_NOATIME, MS_BIND, MS_REC = 0x400, 0x1000, 0x4000
MS_PRIVATE, MS_SLAVE = 0x40000, 0x80000
MNT_DETACH = 2

FALLOC_FL_KEEP_SIZE = 1

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_IDMAP = 0x100000

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 1, 2, 4, 8

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_NAME = 1, 3, 4, 15
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_GET_SECUREBITS, PR_SET_SECUREBITS = 23, 24, 27, 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 39, 47
PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_CLEAR_ALL = 1, 4

_SYS_open_tree, _SYS_move_mount, _SYS_openat2, _SYS_mount_setattr = 428, 429, 437, 442
_SYS_fsopen, _SYS_fsconfig, _SYS_fsmount = 430, 431, 432
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1
_MACHINE = os.uname().machine
_SYS_pivot_root = {"x86_64": 155, "aarch64": 41}.get(_MACHINE, -1)
_SYS_capget, _SYS_capset = {"x86_64": (125, 126), "aarch64": (90, 91)}.get(_MACHINE, (-1, -1))
_SYS_seccomp = {"x86_64": 317, "aarch64": 277}.get(_MACHINE, -1)
_SYS_kcmp = {"x86_64": 312, "aarch64": 272}.get(_MACHINE, -1)
_SYS_pidfd_getfd = 438  # on every architecture
_KCMP_FILES = 2
_IPC_RMID = 0
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 8
_OPENAT2_TRIES = 200


def _function(name: str, *types: Any) -> Callable[..., int]:
    """A function of libc that takes these types and returns an int."""
    return ctypes.CFUNCTYPE(c_int, *types, use_errno=True)((name, _libc))


def _syscall(number: int, *types: Any) -> Callable[..., int]:
    """A system call by its number, through syscall(2)."""
    function = ctypes.CFUNCTYPE(c_long, c_long, *types, use_errno=True)(("syscall", _libc))
    return partial(function, number)


_unshare = _function("unshare", c_int)
_fallocate = _function("fallocate", c_int, c_int, c_long, c_long)
_syncfs = _function("syncfs", c_int)
_mount = _function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = _function("umount2", c_char_p, c_int)
_prctl = _function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_name = _function("prctl", c_int, c_char_p, c_ulong, c_ulong, c_ulong)
_memmove = _function("memmove", c_void_p, c_char_p, c_size_t)
_shmctl = _function("shmctl", c_int, c_int, c_void_p)
_semctl = _function("semctl", c_int, c_int, c_int)
_msgctl = _function("msgctl", c_int, c_int, c_void_p)
_pivot_root = _syscall(_SYS_pivot_root, c_char_p, c_char_p)
_open_tree = _syscall(_SYS_open_tree, c_int, c_char_p, c_uint)
_move_mount = _syscall(_SYS_move_mount, c_int, c_char_p, c_int, c_char_p, c_uint)
_mount_setattr = _syscall(_SYS_mount_setattr, c_int, c_char_p, c_uint, c_char_p, c_size_t)
_fsopen = _syscall(_SYS_fsopen, c_char_p, c_uint)
_fsconfig = _syscall(_SYS_fsconfig, c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = _syscall(_SYS_fsmount, c_int, c_uint, c_uint)
_renameat2 = _function("renameat2", c_int, c_char_p, c_int, c_char_p, c_uint)
_openat2 = _syscall(_SYS_openat2, c_int, c_char_p, c_char_p, c_size_t)
_seccomp = _syscall(_SYS_seccomp, c_uint, c_uint, c_void_p)
_kcmp = _syscall(_SYS_kcmp, c_int, c_int, c_int, c_ulong, c_ulong)
_pidfd_getfd = _syscall(_SYS_pidfd_getfd, c_int, c_int, c_uint)
_capset = _syscall(_SYS_capset, c_void_p, c_void_p)
_capget = _syscall(_SYS_capget, c_void_p, c_void_p)

# A type of ctypes is dear to make in a new process, and each size of a buffer is one of its own.
_sets = ctypes.create_string_buffer(24)


class _Program(ctypes.Structure):
    """struct sock_fprog: the number of instructions, and their address."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", c_char_p))


def _check(result: int, *path: Any) -> int:
    """The result of a call; -1 raises OSError from errno, with the path if there is one."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), *path)
    return result


_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def _bytes(path: str | None) -> bytes | None:
    return None if path is None else path.encode(_ENCODING, _ERRORS)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_unshare(flags))


def setns(fd: int, kind: int) -> None:
    """setns(2). Into a mount namespace, its own as well, the caller comes at its very root."""
    _check(_libc.setns(fd, kind))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    _check(_fallocate(fd, mode, offset, length))


def syncfs(fd: int) -> None:
    """syncfs(2)."""
    _check(_syncfs(fd))


def mount(
    source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None
) -> None:
    """mount(2)."""
    _check(_mount(_bytes(source), _bytes(target), _bytes(fstype), flags, _bytes(data)), target)


def umount2(target: str, flags: int) -> None:
    """umount2(2)."""
    _check(_umount2(_bytes(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_pivot_root(_bytes(new_root), _bytes(put_old)), new_root)


def open_tree(path: str, flags: int, dirfd: int = AT_FDCWD) -> int:
    """open_tree(2), Linux 5.2: a descriptor, with OPEN_TREE_CLONE of a detached copy."""
    return _check(_open_tree(dirfd, _bytes(path), flags | OPEN_TREE_CLOEXEC), path)


def move_mount(fd: int, target: str | int) -> None:
    """move_mount(2), Linux 5.2: attach the detached mount `fd` at `target`, path or descriptor."""
    if isinstance(target, int):
        flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
        _check(_move_mount(fd, b"", target, b"", flags))
    else:
        _check(_move_mount(fd, b"", AT_FDCWD, _bytes(target), MOVE_MOUNT_F_EMPTY_PATH), target)


def mount_nowhere(kind: str) -> int:
    """A descriptor of a new mount of the file system `kind` that is at no path (fsopen(2) and
    fsmount(2), Linux 5.2). It ends with the descriptor."""
    context = _check(_fsopen(_bytes(kind), _FSOPEN_CLOEXEC), kind)
    try:
        _check(_fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0), kind)
        return _check(_fsmount(context, _FSMOUNT_CLOEXEC, 0), kind)
    finally:
        os.close(context)


def mount_setattr(fd: int, attributes: int, recursive: bool = True, userns: int = 0) -> None:
    """mount_setattr(2), Linux 5.12: set `attributes` on the mount `fd` and make it private.

    With MOUNT_ATTR_IDMAP `userns` is the user namespace whose maps it gets.
    """
    attr = struct.pack("QQQQ", attributes, 0, MS_PRIVATE, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _check(_mount_setattr(fd, b"", flags, attr, len(attr)))


def openat2(dirfd: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2), Linux 5.6: open `path` below `dirfd` under the RESOLVE_ rules; close-on-exec.
    It makes no file.

    A path that the rules forbid raises OSError EXDEV (it left `dirfd`) or ELOOP (a link).
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    tries = 0
    while True:
        try:
            return _check(_openat2(dirfd, _bytes(path), how, len(how)), path)
        except BlockingIOError:
            # EAGAIN: a rename raced with "..", and the kernel asks to try again. The kernel also
            # answers it for a lease (fcntl(2) F_SETLEASE) that a program holds, maybe for ever.
            tries += 1
            if tries == _OPENAT2_TRIES:
                raise


def renameat2(source_fd: int, source: str, target_fd: int, target: str, flags: int) -> None:
    """renameat2(2), Linux 3.15: rename with one of the RENAME_ flags. Raises OSError."""
    _check(_renameat2(source_fd, _bytes(source), target_fd, _bytes(target), flags), target)


def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
    """prctl(2) with integer arguments."""
    return _check(_prctl(option, arg2, arg3, 0, 0))


def prctl_each(option: tuple[int, ...], numbers: Iterable[int]) -> list[int]:
    """prctl(2) with the arguments `option` and each of `numbers` as the next one; the results.

    One call of Python for all: there are forty capabilities, and two questions about each.
    """
    zeros = (0,) * (4 - len(option))
    results = [_prctl(*option, number, *zeros) for number in numbers]
    if -1 in results:
        _check(-1)  # errno may be of a later call, which is no worse
    return results


def seccomp_listener(program: bytes) -> int:
    """seccomp(2), SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_NEW_LISTENER (Linux 5.0):
    `program` is an array of sock_filter; the descriptor, close-on-exec, of its listener."""
    return _set_filter(program, _SECCOMP_FILTER_FLAG_NEW_LISTENER)


def seccomp(program: bytes) -> None:
    """seccomp(2), SECCOMP_SET_MODE_FILTER, without a listener."""
    _set_filter(program, 0)


def pidfd_getfd(pidfd: int, number: int) -> int:
    """pidfd_getfd(2): a copy of a descriptor of another process. CAP_SYS_PTRACE is needed for those
    of another user."""
    return _check(_pidfd_getfd(pidfd, number, 0))


def have_same_files(one: int, other: int) -> bool:
    """kcmp(2), KCMP_FILES: two threads have one table of open files. CAP_SYS_PTRACE is needed for
    those of another user."""
    return _check(_kcmp(one, other, _KCMP_FILES, 0, 0)) == 0


def _set_filter(program: bytes, flags: int) -> int:
    fprog = _Program(len(program) // 8, program)
    return _check(_seccomp(_SECCOMP_SET_MODE_FILTER, flags, ctypes.addressof(fprog)))


def syscall_numbers(names: list[str]) -> dict[str, int]:
    """seccomp_syscall_resolve_name(3): the numbers of the calls that this architecture has.

    Raises OSError when libseccomp is not installed.
    """
    resolve = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name
    resolve.restype, resolve.argtypes = c_int, [c_char_p]
    numbers = {name: int(resolve(name.encode())) for name in names}
    return {name: number for name, number in numbers.items() if number >= 0}


def shmctl_remove(number: int) -> None:
    """shmctl(2), IPC_RMID: remove a System V shared memory segment."""
    _check(_shmctl(number, _IPC_RMID, None))


def semctl_remove(number: int) -> None:
    """semctl(2), IPC_RMID: remove a set of System V semaphores."""
    _check(_semctl(number, 0, _IPC_RMID))


def msgctl_remove(number: int) -> None:
    """msgctl(2), IPC_RMID: remove a System V message queue."""
    _check(_msgctl(number, _IPC_RMID, None))


REMOVE_OBJECT = {"shm": shmctl_remove, "sem": semctl_remove, "msg": msgctl_remove}
"""Kind of a System V object, as /proc/sysvipc names it -> the function that removes one."""


def capset_none() -> None:
    """capset(2): empty the effective, permitted and inheritable sets of this process."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_capset(header, struct.pack("IIIIII", *[0] * 6)))


def capget() -> tuple[int, int, int]:
    """capget(2): this process's effective, permitted and inheritable sets, as bit masks."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_capget(header, _sets))
    *low, high0, high1, high2 = struct.unpack("IIIIII", _sets)
    high = high0, high1, high2
    return low[0] | high[0] << 32, low[1] | high[1] << 32, low[2] | high[2] << 32


@cache
def _arguments() -> tuple[int, int]:
    """Where the arguments and the environment of this process are. A fork has them there too, also
    in a jail, whose /proc does not show it to itself."""
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    return int(fields[48 - 3]), int(fields[51 - 3])


def set_process_title(title: str) -> None:
    """Make `ps` show `title` for this process: its name (15 characters) and its arguments.

    The arguments are overwritten in place, as setproctitle does: prctl(PR_SET_MM_ARG_START)
    would need CAP_SYS_RESOURCE. Fields 48 and 51 of /proc/self/stat (proc(5)) are the first
    address of the arguments and the last of the environment, which follows them.
    """
    text = title.encode()
    _prctl_name(PR_SET_NAME, b"sandboxd-" + text[len("sandboxd: ") :].partition(b" ")[0], 0, 0, 0)
    start, end = _arguments()
    if start:
        _memmove(start, text[: end - start - 1].ljust(end - start, b"\0"), end - start)
