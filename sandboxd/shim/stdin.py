"""The standard input of a step, with a test whether a program waits for it.

Standard input is a pipe, or a terminal (terminal_stdin.py), for which the same holds. A program
waits for its user when the pipe is empty and a thread of the run is blocked in a call that data in
this pipe would end. Such a call is read(2) or splice(2) on the pipe, as of Rust's `io::copy` and
pv(1), or one of their kin, or select, poll or epoll_wait with the pipe among its descriptors and
with no timeout, or with one of LONG_TIMEOUT_S at least. A timeout alone does not prove other work:
event loops have timers (V8 collects garbage after 8 s and more), and a program may give its user
half a minute. A program with a shorter timeout has something else to do.

/proc/PID/task/TID/syscall (proc(5)) shows the call and its arguments. A reader of this file needs
ptrace rights. The shim has them: it has the uid of the programs, it is an ancestor of all of them
(Yama's scope 1), and a program is dumpable after its exec.

A program controls the state that the shim reads there, and can deceive only itself.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import selectors
import struct
import termios
import time
from collections.abc import Callable, Iterator

from .deadlines import Deadlines

_MACHINE = os.uname().machine
# number on this architecture (asm/unistd.h) -> call; some exist on x86_64 alone.
# "read" is read, readv, preadv2, splice and tee: the input is their first argument.
_X86_64 = {
    0: "read", 19: "read", 327: "read", 275: "read", 276: "read", 7: "poll", 271: "ppoll",
    23: "select", 270: "select", 232: "epoll", 281: "epoll", 441: "epoll2",
}  # fmt: skip
_AARCH64 = {
    63: "read", 65: "read", 286: "read", 76: "read", 77: "read", 73: "ppoll", 72: "select",
    22: "epoll", 441: "epoll2",
}  # fmt: skip
_CALLS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(_MACHINE, {})
_POLLFD = struct.Struct("ihh")
# A program may have thousands of threads and descriptors; a program that waits for a person has
# few.
_TASKS_MAX, _DESCRIPTORS_MAX = 64, 64
_INT = 0xFFFFFFFF  # the 32 bits of an int; a negative timeout, which means none, becomes large
_TIME = struct.Struct("qq")  # struct timespec or timeval: seconds, and a fraction of a second

LONG_TIMEOUT_S = 5

_PIPE_MAX = 1 << 20
"""Bytes that a pipe holds at most (/proc/sys/fs/pipe-max-size)."""

PENDING_MAX = 8 << 20
"""Bytes of input that may wait until a program reads them."""


class Stdin:
    """The writing end of a step's standard input. `fd` is None after it was closed.

    child      the reading end, for the step
    pending    bytes that the pipe has not taken yet
    dropped    bytes of input that there was no room for
    streamed   a client has streamed some of the input
    end_marks  bytes behind the last input that mean its end
    """

    end_marks = b""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        changed: Callable[[], None] = lambda: None,
        is_last: bool = True,
    ) -> None:
        """`changed` is called when the pipe has taken bytes or was closed. After a step that is
        not the last one, the input that it has not read is still needed."""
        self.child, fd = self._open()
        os.set_blocking(fd, False)
        self.fd: int | None = fd
        # Only without a reading end of its own does the shim see that no program reads any more.
        self._reader = None if is_last else os.dup(self.child)
        self._selector, self._changed = selector, changed
        self._links = self._names()
        self._ending = False
        self.pending = b""
        self.dropped = 0
        self.streamed = False

    def _open(self) -> tuple[int, int]:
        """The reading and the writing end."""
        return os.pipe2(os.O_CLOEXEC)

    def _names(self) -> set[str]:
        """The names by which /proc/PID/fd shows the reading end."""
        return {f"pipe:[{os.fstat(self.child).st_ino}]"}

    def write(self, data: bytes, eof: bool) -> None:
        """Queue `data`, and with `eof` the end of input. Writes as much as the pipe takes."""
        if len(self.pending) + len(data) > PENDING_MAX:
            self.dropped += len(data)  # the program does not read the input that it has
            data = b""
        self.pending += data
        if eof and not self._ending:
            self._ending = True
            self.pending += self.end_marks
        self._flush()

    def _flush(self, _: int = 0) -> None:
        """Write as much of the queue as the pipe takes, and the rest when it takes more."""
        if self.fd is None:
            return
        try:
            while self.pending:
                self.pending = self.pending[os.write(self.fd, self.pending) :]
        except BlockingIOError:
            if self.fd not in self._selector.get_map():
                self._selector.register(self.fd, selectors.EVENT_WRITE, self._flush)
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self._ending = True  # no process has the reading end any more
        self._unwatch()
        if self._ending:
            self.close()
        self._changed()

    def _unwatch(self) -> None:
        if self.fd is not None and self.fd in self._selector.get_map():
            self._selector.unregister(self.fd)

    def unread(self) -> bytes:
        """After the step: the streamed input that it has not read."""
        if self._reader is None or not self.streamed:
            return b""
        # Another run of the session, to which a program sent its descriptor, may read it, too.
        os.set_blocking(self._reader, False)
        try:
            return os.read(self._reader, _PIPE_MAX) + self.pending
        except BlockingIOError:
            return self.pending

    def close(self) -> None:
        """Close the pipe: the program reads the end of its input."""
        if self.fd is not None:
            self._unwatch()
            os.close(self.fd)
            self.fd = None
            self.pending = b""
            self._changed()

    def finish(self) -> None:
        """Close everything, after the step."""
        self.close()
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None

    def awaited(self) -> bool:
        """Whether a thread of the run is blocked until data comes through this pipe."""
        return (
            self.fd is not None
            and not self.pending
            and self._is_empty()
            and any(self._is_blocked(task) for task in itertools.islice(_tasks(), _TASKS_MAX))
        )

    def _is_empty(self) -> bool:
        """Whether the programs have read all that was written."""
        return self.fd is not None and buffered(self.fd) == 0

    def _is_blocked(self, task: str) -> bool:
        """Whether the thread with the /proc directory `task` is blocked on this pipe."""
        try:
            with open(f"{task}/syscall", encoding="utf-8") as file:
                words = file.read().split()
            if len(words) < 7:  # "running", or the thread has ended
                return False
            call = _CALLS.get(int(words[0]), "")
            arguments = [int(word, 16) for word in words[1:7]]
            if call == "read":
                return self._is_input(task, arguments[0])
            if call == "select":
                return _is_long(task, arguments[4]) and self._in_fd_set(task, arguments)
            if call == "poll":
                return _is_long_ms(arguments[2]) and self._in_pollfds(task, arguments)
            if call == "ppoll":
                return _is_long(task, arguments[2]) and self._in_pollfds(task, arguments)
            if call == "epoll":
                return _is_long_ms(arguments[3]) and self._in_epoll(task, arguments[0])
            if call == "epoll2":  # epoll_pwait2: the timeout is a struct timespec
                return _is_long(task, arguments[3]) and self._in_epoll(task, arguments[0])
        except (OSError, ValueError):
            pass  # the thread ended or changed its credentials meanwhile
        return False

    def _is_input(self, task: str, fd: int) -> bool:
        return os.readlink(f"{task}/fd/{fd}") in self._links

    def _in_pollfds(self, task: str, arguments: list[int]) -> bool:
        count = min(arguments[1], _DESCRIPTORS_MAX)
        data = _memory(task, arguments[0], count * _POLLFD.size)
        return any(fd >= 0 and self._is_input(task, fd) for fd, _, _ in _POLLFD.iter_unpack(data))

    def _in_fd_set(self, task: str, arguments: list[int]) -> bool:
        size = (min(arguments[0], _DESCRIPTORS_MAX) + 63) // 64 * 8
        bits = int.from_bytes(_memory(task, arguments[1], size), "little")
        return any(self._is_input(task, fd) for fd in range(size * 8) if bits >> fd & 1)

    def _in_epoll(self, task: str, epoll: int) -> bool:
        with open(f"{task}/fdinfo/{epoll}", encoding="utf-8") as file:
            head = itertools.islice(file, _DESCRIPTORS_MAX)
            lines = [line.split() for line in head if line.startswith("tfd:")]
        return any(self._is_input(task, int(words[1])) for words in lines)


def _is_long_ms(timeout: int) -> bool:
    """Whether a timeout in milliseconds is long."""
    return timeout & _INT >= LONG_TIMEOUT_S * 1000


def _is_long(task: str, pointer: int) -> bool:
    """Whether the timeout at the address `pointer` is long; a null pointer means no timeout."""
    return pointer == 0 or _TIME.unpack(_memory(task, pointer, _TIME.size))[0] >= LONG_TIMEOUT_S


def _memory(task: str, address: int, size: int) -> bytes:
    """`size` bytes of the thread's memory."""
    with open(f"{task}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), size, address)


def buffered(fd: int) -> int:
    """Bytes that are in the pipe and not yet read."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0])


def _tasks() -> Iterator[str]:
    """/proc/PID/task/TID of every visible thread; in the jail these are the threads of the run."""
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                yield from (f"/proc/{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task"))
            except OSError:
                continue  # the process has just ended


def check_wait(
    now: float, stdin: Stdin | None, deadlines: Deadlines, attached: bool, quiet_since: float
) -> None:
    """Record whether the program waits for input, and close an input that gets no answer in time.

    `attached`: the input is a stream of the client. It is not closed: a program must not take half
    of its input for all of it. `quiet_since` is the time of the program's last output.
    """
    if stdin is None or stdin.fd is None:
        deadlines.stop_looking(now)
    elif deadlines.input_reached(now) and attached:
        deadlines.expire_input(now)
    elif deadlines.input_reached(now):
        stdin.close()
        deadlines.stop_looking(now)
    elif deadlines.look_due(now, quiet_since):
        awaited = stdin.awaited()
        deadlines.record_look(now, awaited, time.monotonic() - now)
