"""Copies what a step prints into the run's spool.

The spool is bounded, so a program may print for ever; it is never killed for that, nor blocked
for good. What is beyond the step's own limit is read all the same, dropped, and counted. But
copying costs the daemon CPU, which a flood must pay itself: beyond FREE bytes the pipes are read
at RATE bytes a second, and the program waits.
"""

from __future__ import annotations

import os
import selectors
import time

from ..spool import STDERR, STDOUT, ConsoleWriter, Splitter
from .output_rate import OutputRate
from .stdin import buffered

CHUNK = 64 * 1024
FREE = 64 << 20
RATE = 64 << 20
LEAST = 32 * 1024
"""What a read counts for at least: 2000 a second, when a program writes byte by byte, each into a
packet of its own (O_DIRECT, pipe(2)). What others write meanwhile comes with the next read."""
SHORTEST_S = 0.01
"""A pause that is worth making."""

SAID = 4096
"""Bytes of a step's last words that are looked at for a reason of its end."""


class ConsoleCopier:
    """The outputs of one run."""

    def __init__(self, selector: selectors.BaseSelector, writer: ConsoleWriter) -> None:
        self._selector = selector
        self._writer = writer
        self._open: dict[int, tuple[int, Splitter]] = {}
        self._paused: dict[int, float] = {}
        self._rate = OutputRate(FREE, RATE, LEAST)
        self.received = {STDOUT: 0, STDERR: 0}
        self.over = self.unwritten = 0
        self.quiet_since = time.monotonic()
        self._room = self._dropped = 0
        self._said = b""

    @property
    def position(self) -> int:
        """Where the spool's next record goes."""
        return self._writer.position

    @property
    def cut(self) -> int:
        """Bytes of the step's output that are not kept, or not any more."""
        return self.over + self.unwritten + self._writer.dropped - self._dropped

    @property
    def said(self) -> str:
        """The end of what the step has printed, whatever the stream."""
        return self._said.decode("utf-8", "replace")

    def attach(self, limit: int) -> tuple[int, int]:
        """Begin a step, of whose output `limit` bytes are kept: pipes for its standard output
        and error; returns the writing ends."""
        self.received = {STDOUT: 0, STDERR: 0}
        self.over = self.unwritten = 0
        self._room, self._dropped, self._said = limit, self._writer.dropped, b""
        self.quiet_since = time.monotonic()
        ends = []
        for stream in (STDOUT, STDERR):
            fd, end = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(fd, False)
            self._open[fd] = (stream, Splitter())
            self._selector.register(fd, selectors.EVENT_READ, self._readable)
            ends.append(end)
        return ends[0], ends[1]

    def _readable(self, fd: int) -> None:
        if size := self._copy(fd):
            self._meter(fd, size)

    def _copy(self, fd: int) -> int:
        """Copy one chunk; 0 when there is none now, or none any more."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return 0
        stream, splitter = self._open[fd]
        self.received[stream] += len(data)
        self.quiet_since = time.monotonic()
        if data:
            self._said = (self._said + data[-SAID:])[-SAID:]
            kept = data[: self._room]
            self._room -= len(kept)
            self.over += len(data) - len(kept)
            self._write(stream, splitter.feed(kept))
        else:
            self._close(fd)
        return len(data)

    def _write(self, stream: int, text: bytes) -> None:
        if not text:
            return
        before = self._writer.written
        try:
            self._writer.append(stream, text)
        except OSError:  # the disk of the host is full: the program goes on, the loss is told
            self.unwritten += len(text) - (self._writer.written - before)

    def _close(self, fd: int) -> None:
        stream, splitter = self._open.pop(fd)
        self._write(stream, splitter.end())
        if fd not in self._paused:
            self._selector.unregister(fd)
        self._paused.pop(fd, None)
        os.close(fd)

    def _meter(self, fd: int, size: int) -> None:
        """Hold a flood back: stop reading `fd` until its rate is within bounds again."""
        now = time.monotonic()
        if (pause := self._rate.pause(size, now)) > SHORTEST_S:
            self._selector.unregister(fd)
            self._paused[fd] = now + pause

    def resume(self, now: float) -> float | None:
        """Read again what was held back long enough; returns when the next is due, or None."""
        for fd in [fd for fd, due in self._paused.items() if due <= now]:
            del self._paused[fd]
            self._selector.register(fd, selectors.EVENT_READ, self._readable)
        return min(self._paused.values(), default=None)

    def drain(self) -> None:
        """After the step's last process has gone: read what is still in the pipes, close them.

        All that was ever written is there by now, so what the pipe has is all there is. Its end may
        be late, or never come: descriptors that a program sent to itself are collected by the
        kernel later, and one that it sent to another run of the session is still written to.
        """
        for fd in list(self._open):
            left = buffered(fd)
            while left > 0 and (size := self._copy(fd)):
                left -= size
            if fd in self._open:
                self._close(fd)
