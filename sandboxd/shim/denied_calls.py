"""Answers the system calls that the filter refuses, and counts them by name.

A refused call (jail/seccomp.py) puts its caller to sleep until the holder of the filter's
listener answers; the answer is always EPERM. A caller that is killed meanwhile does not wait,
and if this process dies the kernel answers ENOSYS in its stead: the call is never carried out.

An answer takes the shim's CPU time, which is not the run's, so a flood of refused calls must
pay itself: beyond FREE calls only BATCH are answered every PAUSE_S, and the program waits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import selectors
import struct
import time
from collections import Counter
from collections.abc import Mapping

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND, linux/seccomp.h
_NOTIFICATION = struct.Struct("=QIIi60x")  # id, pid, flags; struct seccomp_data begins with nr
_RESPONSE = struct.Struct("=QqiI")  # id, val, error, flags

FREE = 1000
BATCH, PAUSE_S = 16, 0.01


class DeniedCalls:
    """The refused calls of one run; owns the `listener`.

    counts  name -> calls of the current step
    last    name of the newest of them, None without one
    """

    def __init__(self, listener: int, names: Mapping[int, str]) -> None:
        self._listener = listener
        self._names = names
        self._ready = select.poll()
        self._ready.register(listener, select.POLLIN)
        self._selector: selectors.BaseSelector | None = None
        self._due: float | None = None
        self._total = 0
        self.counts: Counter[str] = Counter()
        self.last: str | None = None

    def fileno(self) -> int:
        """The listener."""
        return self._listener

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Answer from now on whenever `selector` says so."""
        self._selector = selector
        selector.register(self._listener, selectors.EVENT_READ, self._readable)

    def begin(self) -> None:
        """A step begins: count anew."""
        self.counts, self.last = Counter(), None

    def answer(self) -> bool:
        """Refuse one call; False when none waits. Raises OSError when this is no listener."""
        if not any(events & select.POLLIN for _, events in self._ready.poll(0)):
            return False
        notification = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notification)
            number, _, _, call = _NOTIFICATION.unpack(notification)
            self._count(self._names.get(call, f"number {call}"))
            fcntl.ioctl(self._listener, _SEND, _RESPONSE.pack(number, 0, -errno.EPERM, 0))
        except OSError as error:
            if error.errno != errno.ENOENT:  # it was killed, or a signal came: it waits no more
                raise
        return True

    def _count(self, name: str) -> None:
        self.counts[name] += 1
        self.last = name
        self._total += 1

    def _readable(self, _: int) -> None:
        """Refuse what waits, but only so much at once: others want to be served too."""
        answered = 0
        while answered < BATCH and self.answer():
            answered += 1
        if answered == 0:
            # Who waited may have been killed meanwhile; or the last filtered process has gone.
            if any(events & select.POLLHUP for _, events in self._ready.poll(0)):
                self._pause(float("inf"))
        elif self._total > FREE:
            self._pause(time.monotonic() + PAUSE_S)

    def _pause(self, until: float) -> None:
        assert self._selector
        self._selector.unregister(self._listener)
        self._due = until

    def resume(self, now: float) -> float | None:
        """Answer again after a pause that is over; returns when the pause ends, or None."""
        if self._due is not None and self._due <= now and self._selector:
            self._due = None
            self.watch(self._selector)
        return self._due

    def close(self) -> None:
        """Give the listener back; the kernel answers from then on."""
        os.close(self._listener)
