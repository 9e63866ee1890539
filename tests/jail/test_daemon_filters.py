"""The system call filters of the api and the broker, with attacks of one that is taken over."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sandboxd.errors import StageError
from sandboxd.jail import daemon_filters, identity, seccomp, syscalls

UID = 65000  # of no account

FILTERS = {"api": daemon_filters.of_api, "broker": daemon_filters.of_broker}

_libc = ctypes.CDLL(None, use_errno=True)


def raw(number: int, *arguments: int) -> int:
    """errno of a system call; 0: it has been carried out."""
    six = (*arguments, *(0,) * (6 - len(arguments)))
    result = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, six))
    if number == CLONE and result == 0:
        os._exit(0)  # the new process
    return 0 if result >= 0 else ctypes.get_errno()


def user_namespace() -> int:
    return error_of(lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))


def program() -> int:
    return error_of(lambda: os.execv("/bin/true", ["true"]))


def process() -> int:
    if os.fork() == 0:
        os._exit(0)
    return 0


def error_of(act: Callable[[], object]) -> int:
    try:
        act()
    except OSError as error:
        return error.errno or -1
    return 0


CLONE3, IO_URING_SETUP = 435, 425  # the same on every architecture
CLONE, PTRACE, BPF, KEYCTL = 56, 101, 321, 250  # x86-64
PRCTL, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 157, 22, 2
BPF_MAP_LOOKUP_ELEM = 1  # the kernel asks for no capability, as it may for a new map
TRACEME, CLONE_NEWUSER, SIGCHLD = 0, 0x10000000, 17

ATTACKS: dict[str, tuple[Callable[[], int], int]] = {
    "user namespace": (user_namespace, errno.EPERM),
    "user namespace by clone": (lambda: raw(CLONE, CLONE_NEWUSER | SIGCHLD), errno.EPERM),
    "process with hidden flags": (lambda: raw(CLONE3, 0, 0), errno.ENOSYS),
    "process": (lambda: error_of(process), errno.EPERM),
    "program": (program, errno.EPERM),
    "ptrace": (lambda: raw(PTRACE, TRACEME), errno.EPERM),
    "bpf": (lambda: raw(BPF, BPF_MAP_LOOKUP_ELEM, 0, 0), errno.EPERM),
    "keys": (lambda: raw(KEYCTL, 0, -3, 1), errno.EPERM),
    "io_uring": (lambda: raw(IO_URING_SETUP, 0, 0), errno.ENOSYS),
    "packets": (lambda: error_of(lambda: socket.socket(17, 3)), errno.EAFNOSUPPORT),
    "filters": (lambda: raw(PRCTL, PR_SET_SECCOMP, SECCOMP_MODE_FILTER), errno.EINVAL),
}  # fmt: skip
"""Attack -> its act, and the answer of the filter."""

BPF_DISABLED = Path("/proc/sys/kernel/unprivileged_bpf_disabled")

needs_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")


def confined(filter: bytes | None, act: Callable[[], int]) -> int:
    """The number that `act` returns in a process with the identity of the daemon's halves."""
    shared = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        number = 0
        try:
            if filter:
                seccomp.apply_quiet(filter)
            identity.apply(UID, UID)
            identity.verify(UID, UID)
            if filter:
                seccomp.verify()
            number = act()
        except BaseException:  # of the child; the number shows it
            number = 9999
        finally:
            shared[:4] = number.to_bytes(4, "little")
            os._exit(0)
    os.waitpid(child, 0)
    return int.from_bytes(shared[:4], "little")


@needs_x86
@pytest.mark.parametrize("who", FILTERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_half_of_the_daemon_that_is_taken_over_gets_no(attack: str, who: str) -> None:
    act, answer = ATTACKS[attack]
    assert confined(FILTERS[who](), act) == answer


@needs_x86
@pytest.mark.parametrize("attack", ATTACKS)
def test_without_its_filter_the_kernel_would_answer_otherwise(attack: str) -> None:
    act, answer = ATTACKS[attack]
    number = confined(None, act)
    if attack == "bpf" and number == answer and BPF_DISABLED.read_text() != "0\n":
        pytest.skip("this kernel refuses all of bpf to users")  # before 5.19
    assert number != answer


@pytest.mark.parametrize("who", FILTERS)
def test_threads_names_and_transfers_work(who: str) -> None:
    def act() -> int:
        thread = threading.Thread(target=socket.getaddrinfo, args=("localhost", 80))
        thread.start()
        thread.join()
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        ours.sendall(b"abc")
        os.splice(theirs.fileno(), write, 3)
        return int(os.read(read, 3) == b"abc")

    assert confined(FILTERS[who](), act) == 1


def test_broker_that_is_taken_over_writes_no_file() -> None:
    def act() -> int:
        flags = (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT, os.O_RDONLY | os.O_TRUNC)
        refusals = [error_of(partial(os.open, "/dev/null", one)) for one in flags]
        changes = [lambda: os.unlink("/x"), lambda: os.mkdir("/x"), lambda: os.rename("/x", "/y")]
        unknown = [error_of(change) for change in changes]
        return int(refusals == [errno.EPERM] * 4 and unknown == [errno.ENOSYS] * 3)

    assert confined(daemon_filters.of_broker(), act) == 1
    assert confined(None, act) == 0


def test_filter_that_is_not_there_is_noticed() -> None:
    def act() -> int:
        try:
            seccomp.verify()
        except StageError:
            return 1
        return 0

    assert confined(None, act) == 1
