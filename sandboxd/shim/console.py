"""The copier of a run's output: it reads the pipes of the steps and writes to the run's spool.

The spool is bounded, so a program may print for ever. The program is never blocked for good: output
beyond the limit of the step is read, dropped and counted. The step ends for its output only where
its limit `output_end` says so (run.py).
A client that wants every byte can have the program wait for it (`hold`), as a pipe would do, for
HOLD_S after each of its calls.
Copying costs CPU time of the shim, which the limits of the run do not count. A flood therefore
waits for it: after FREE bytes the pipes are read at RATE bytes a second.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import time

from ..model import Limits
from ..spool import NOTICE, STDERR, STDOUT, ConsoleWriter, Splitter
from ..wire import messages
from .output_rate import OutputRate
from .stdin import buffered

CHUNK = 64 * 1024
FREE = 192 << 20
RATE = 64 << 20
LEAST = 32 * 1024
"""Bytes that a read counts for at least, so that there are 2000 reads a second at most. A program
can write byte by byte, each into a packet of its own (O_DIRECT, pipe(2)). The data of ordinary
programs gathers in the pipe meanwhile and comes with the next read."""
PAUSE_MIN_S = 0.01
"""Seconds; a shorter pause is not worth its system calls."""

HOLD_S = 30.0
"""Seconds for which a program waits for a client that reads no more."""

TERMINAL_HOLDS = 256 * 1024
"""Bytes that a terminal holds at most: the kernel counts only some of them (FIONREAD)."""

LAST_OUTPUT = 4096
"""Bytes at the end of a step's output in which the verdict looks for an error message."""


class ConsoleCopier:
    """The copier of one run.

    received     bytes read in this step, by stream
    excess       bytes beyond the output limit of the step
    unwritten    bytes that the full disk of the host did not take
    quiet_since  monotonic time of the last read
    """

    def __init__(self, selector: selectors.BaseSelector, writer: ConsoleWriter) -> None:
        self._selector = selector
        self._writer = writer
        self._open: dict[int, tuple[int, Splitter]] = {}
        self._ends: list[int] = []
        self._paused: dict[int, float] = {}
        self._held_until = 0.0
        self._rate = OutputRate(FREE, RATE, LEAST)
        self.received = {STDOUT: 0, STDERR: 0}
        self.excess = self.unwritten = 0
        self.quiet_since = time.monotonic()
        self._room = self._end = self._dropped_before = 0
        self._last_output = b""
        self._terminal: int | None = None

    @property
    def position(self) -> int:
        """The position of the next record in the spool."""
        return self._writer.position

    @property
    def cut(self) -> int:
        """Bytes of the step's output that the spool does not have, or has no longer."""
        return self.excess + self.unwritten + self._writer.dropped - self._dropped_before

    @property
    def last_output(self) -> str:
        """The end of the step's output, both streams together."""
        return self._last_output.decode("utf-8", "replace")

    @property
    def end_reached(self) -> bool:
        """The step has printed more than the bytes at which it ends."""
        return sum(self.received.values()) > self._end

    def note(self, text: str) -> None:
        """Add a message of sandboxd to the console, if the disk has room for it."""
        with contextlib.suppress(OSError):
            self._writer.append(NOTICE, text.encode())

    def attach(self, limits: Limits) -> tuple[int, int]:
        """Begin a step with these limits. Returns the writing ends of its pipes for standard output
        and standard error, which stay the copier's: else the end of the program would wake the
        shim by each of them, and then by the message of init."""
        self._begin(limits)
        return self._pipe(STDOUT), self._pipe(STDERR)

    def attach_terminal(self, limits: Limits, terminal: int) -> int:
        """Begin a step whose standard output comes through the descriptor `terminal`, which becomes
        the copier's own. Returns the writing end of the pipe for standard error, as `attach`."""
        self._begin(limits)
        self._terminal = terminal
        self._watch(terminal, STDOUT)
        return self._pipe(STDERR)

    def _begin(self, limits: Limits) -> None:
        self.received = {STDOUT: 0, STDERR: 0}
        self.excess = self.unwritten = 0
        self._end = limits.output_end
        self._room = min(limits.output, limits.output_end)
        self._dropped_before, self._last_output = self._writer.dropped, b""
        self.quiet_since = time.monotonic()

    def _pipe(self, stream: int) -> int:
        fd, end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(fd, False)
        self._watch(fd, stream)
        self._ends.append(end)
        return end

    def _watch(self, fd: int, stream: int) -> None:
        self._open[fd] = (stream, Splitter())
        self._selector.register(fd, selectors.EVENT_READ, self._readable)

    def hold(self, position: int) -> None:
        """Read no output that would overwrite output behind `position`, for HOLD_S from now."""
        now = time.monotonic()
        self._writer.served, self._held_until = position, now + HOLD_S
        self._paused = {fd: min(due, now + PAUSE_MIN_S) for fd, due in self._paused.items()}

    def _readable(self, fd: int) -> None:
        if time.monotonic() < self._held_until and self._writer.endangers:
            self._pause(fd, self._held_until)
        elif size := self._copy(fd):
            self._throttle(fd, size)

    def _copy(self, fd: int) -> int:
        """Copy one chunk. Returns its size; 0: the pipe is empty, or at its end and now closed."""
        try:
            data = _read_terminal(fd) if fd == self._terminal else os.read(fd, CHUNK)
        except BlockingIOError:
            return 0
        stream, splitter = self._open[fd]
        self.received[stream] += len(data)
        self.quiet_since = time.monotonic()
        if data:
            self._last_output = (self._last_output + data[-LAST_OUTPUT:])[-LAST_OUTPUT:]
            within_limit = data[: self._room]
            self._room -= len(within_limit)
            self.excess += len(data) - len(within_limit)
            self._write(stream, splitter.feed(within_limit))
        else:
            self._close(fd)
        return len(data)

    def _write(self, stream: int, data: bytes) -> None:
        if not data:
            return
        before = self._writer.written
        try:
            self._writer.append(stream, data)
        except OSError:  # the disk of the host is full: the program goes on, the loss is counted
            self.unwritten += len(data) - (self._writer.written - before)

    def _close(self, fd: int) -> None:
        stream, splitter = self._open.pop(fd)
        self._write(stream, splitter.end())
        if fd not in self._paused:
            self._selector.unregister(fd)
        self._paused.pop(fd, None)
        if fd == self._terminal:
            self._terminal = None
        os.close(fd)

    def _throttle(self, fd: int, size: int) -> None:
        """Stop reading `fd` until the rate is within bounds again."""
        now = time.monotonic()
        if (pause := self._rate.pause(size, now)) > PAUSE_MIN_S:
            self._pause(fd, now + pause)

    def _pause(self, fd: int, until: float) -> None:
        if fd in self._open and fd not in self._paused:
            self._selector.unregister(fd)
            self._paused[fd] = until

    def resume(self, now: float) -> float | None:
        """Read the pipes again whose pause is over. Returns the end of the next pause, or None."""
        for fd in [fd for fd, due in self._paused.items() if due <= now]:
            del self._paused[fd]
            self._selector.register(fd, selectors.EVENT_READ, self._readable)
        return min(self._paused.values(), default=None)

    def drain(self) -> None:
        """Read the rest of the pipes and close them, after the last process of the step.

        The pipes hold all output of the step by now, so their present content is enough. The end
        of a pipe may come late: the kernel collects descriptors that a program sent to itself
        later. It may also never come: another run of the session, to which a program sent its
        descriptor, can still write to the pipe.
        """
        for fd in list(self._open):
            left = TERMINAL_HOLDS if fd == self._terminal else buffered(fd)
            while left > 0 and (size := self._copy(fd)):
                left -= size
            if fd in self._open:
                self._close(fd)
        messages.close_all(self._ends)
        self._ends.clear()


def _read_terminal(fd: int) -> bytes:
    """Output of a terminal; b"" at its end. One read(2) returns a page at most."""
    data = b""
    try:
        while len(data) < CHUNK:
            data += os.read(fd, CHUNK - len(data))
    except BlockingIOError:
        if not data:
            raise
    except OSError as error:  # EIO: no process has the other side open
        if error.errno != errno.EIO:
            raise
    return data
