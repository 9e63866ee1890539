"""A step's standard input, and how to tell that a program waits for it.

Standard input is a pipe. A program waits for its user when the pipe is empty and a thread of
the run is blocked in a call that this pipe ends: read(2) on it, or select, poll or epoll_wait
with it among what is watched, and without time-out or with one of PATIENT_S at least: event loops
have timers of their own beside (V8 tidies up its heap after 8 s and more), and a program may give
its user half a minute. One that looks more often has something else to do.
/proc/PID/task/TID/syscall (proc(5)) tells the call and its arguments. It asks for ptrace rights:
the shim has them, since it has the uid of the payload, is an ancestor of all of it (Yama's
scope 1) and the payload, once exec'ed, is dumpable.

What is read there is the payload's own state: it can only fool itself.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import struct
import termios
from collections.abc import Iterator

_MACHINE = os.uname().machine
# number on this architecture (asm/unistd.h) -> call; some exist on x86_64 alone
_X86_64 = {
    0: "read", 19: "read", 7: "poll", 271: "ppoll", 23: "select", 270: "select",
    232: "epoll", 281: "epoll",
}  # fmt: skip
_AARCH64 = {63: "read", 65: "read", 73: "ppoll", 72: "select", 22: "epoll"}
_CALLS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(_MACHINE, {})
_POLLFD = struct.Struct("ihh")
# A program may have thousands of threads and descriptors; who waits for a person has few.
_TASKS_MAX, _DESCRIPTORS_MAX = 64, 64
_INT = 0xFFFFFFFF  # the 32 bits of an int; negative ones, which mean no time-out, are large
_TIME = struct.Struct("qq")  # struct timespec, and timeval: seconds, and parts of one

PATIENT_S = 5

PENDING_MAX = 8 << 20
"""Bytes of input that may wait for a program to read them."""


class Stdin:
    """The writing end of a step's standard input. `fd` is None once it is closed.

    dropped  bytes of input that there was no room for
    """

    def __init__(self) -> None:
        self.child, fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(fd, False)
        self.fd: int | None = fd
        self._link = f"pipe:[{os.fstat(fd).st_ino}]"
        self._pending = b""
        self._ending = False
        self.dropped = 0

    def write(self, data: bytes, eof: bool) -> None:
        """Queue `data`, then the end of input if `eof`; `flush` passes it on."""
        if len(self._pending) + len(data) > PENDING_MAX:
            self.dropped += len(data)  # it does not read what it has
            data = b""
        self._pending += data
        self._ending = self._ending or eof
        self.flush()

    def flush(self) -> None:
        """Pass on as much as the pipe takes."""
        if self.fd is None:
            return
        try:
            while self._pending:
                self._pending = self._pending[os.write(self.fd, self._pending) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            self._ending = True  # nobody reads any more
        if self._ending:
            self.close()

    def close(self) -> None:
        """End of input."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
            self._pending = b""

    def awaited(self) -> bool:
        """A thread of the run is blocked until something comes through this pipe."""
        return (
            self.fd is not None
            and not self._pending
            and buffered(self.fd) == 0
            and any(self._waits(task) for task in itertools.islice(_tasks(), _TASKS_MAX))
        )

    def _waits(self, task: str) -> bool:
        """The thread at /proc/... `task` is blocked on this pipe."""
        try:
            with open(f"{task}/syscall", encoding="utf-8") as file:
                words = file.read().split()
            if len(words) < 7:  # "running", or no longer there
                return False
            call = _CALLS.get(int(words[0]), "")
            arguments = [int(word, 16) for word in words[1:7]]
            if call == "read":
                return self._is_pipe(task, arguments[0])
            if call == "select":
                return _patient(task, arguments[4]) and self._selected(task, arguments)
            if call == "poll":
                return _patient_ms(arguments[2]) and self._polled(task, arguments)
            if call == "ppoll":
                return _patient(task, arguments[2]) and self._polled(task, arguments)
            if call == "epoll":
                return _patient_ms(arguments[3]) and self._watched(task, arguments[0])
        except (OSError, ValueError):
            pass  # it ended, or changed its credentials, while we looked
        return False

    def _is_pipe(self, task: str, fd: int) -> bool:
        return os.readlink(f"{task}/fd/{fd}") == self._link

    def _polled(self, task: str, arguments: list[int]) -> bool:
        count = min(arguments[1], _DESCRIPTORS_MAX)
        data = _memory(task, arguments[0], count * _POLLFD.size)
        return any(fd >= 0 and self._is_pipe(task, fd) for fd, _, _ in _POLLFD.iter_unpack(data))

    def _selected(self, task: str, arguments: list[int]) -> bool:
        size = (min(arguments[0], _DESCRIPTORS_MAX) + 63) // 64 * 8
        bits = int.from_bytes(_memory(task, arguments[1], size), "little")
        return any(self._is_pipe(task, fd) for fd in range(size * 8) if bits >> fd & 1)

    def _watched(self, task: str, epoll: int) -> bool:
        with open(f"{task}/fdinfo/{epoll}", encoding="utf-8") as file:
            head = itertools.islice(file, _DESCRIPTORS_MAX)
            lines = [line.split() for line in head if line.startswith("tfd:")]
        return any(self._is_pipe(task, int(words[1])) for words in lines)


def _patient_ms(timeout: int) -> bool:
    return timeout & _INT >= PATIENT_S * 1000


def _patient(task: str, timeout: int) -> bool:
    """The same of a pointer to a time; null: none."""
    return timeout == 0 or _TIME.unpack(_memory(task, timeout, _TIME.size))[0] >= PATIENT_S


def _memory(task: str, address: int, size: int) -> bytes:
    """`size` bytes of the task's memory."""
    with open(f"{task}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), size, address)


def buffered(fd: int) -> int:
    """Bytes in the pipe that nobody has read yet."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0])


def _tasks() -> Iterator[str]:
    """/proc/PID/task/TID of every thread that may be seen; in the jail that is the run's."""
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                yield from (f"/proc/{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task"))
            except OSError:
                continue  # it has just ended
