"""The answers to system calls that the filter refuses, and their counts by name.

A refused call (jail/seccomp.py) puts its thread to sleep until the process with the filter's
listener, the shim, answers. The answer is EPERM, but for calls that a run may do so often
(bounded_calls.py): these are carried out up to their bound. A thread that is killed meanwhile does
not wait for an answer. If the shim dies, the kernel answers ENOSYS, and carries no such call out.

An answer costs CPU time of the shim, which the limits of the run do not count. A flood of refused
calls therefore has to wait: after FREE calls, of which a bounded one is a tenth, the shim answers
BATCH calls every PAUSE_S seconds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import selectors
import struct
import time
from collections.abc import Callable, Mapping

from .bounded_calls import BoundedCalls

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND, linux/seccomp.h
_NOTIFICATION = struct.Struct("=QIIi60x")  # id, pid, flags; struct seccomp_data begins with nr
_RESPONSE = struct.Struct("=QqiI")  # id, val, error, flags

FREE = 1000
BATCH, PAUSE_S = 16, 0.01
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_TENTH = 0.1


class DeniedCalls:
    """The refused calls of the runs of one jail. It owns the descriptor `listener`.

    counts  calls of the current step, by name
    last    name of the last of these calls, or None
    """

    def __init__(
        self, listener: int, names: Mapping[int, str], open_sockets: Callable[[], int] = lambda: 0
    ) -> None:
        self._bounds = BoundedCalls(open_sockets)
        self._listener = listener
        self._names = names
        self._ready = select.poll()
        self._ready.register(listener, select.POLLIN)
        self._selector: selectors.BaseSelector | None = None
        self._due: float | None = None
        self._total = 0.0
        self.counts: dict[str, int] = {}
        self.last: str | None = None

    def fileno(self) -> int:
        """The descriptor of the listener."""
        return self._listener

    def watch(self, selector: selectors.BaseSelector, meets_others: bool = False) -> None:
        """Begin a run: answer from now on whenever `selector` reports a call. `meets_others`: its
        programs can send descriptors to those of other runs."""
        self._selector = selector
        self._bounds.begin(meets_others)
        self._due, self._total = None, 0.0
        self._register()

    def _register(self) -> None:
        assert self._selector
        self._selector.register(self._listener, selectors.EVENT_READ, self._readable)

    def begin(self) -> None:
        """Begin a step: its counts start at 0."""
        self.counts, self.last = {}, None

    def answer(self) -> bool:
        """Answer one call; False when no call waits. Raises OSError for a descriptor that is no
        listener."""
        ready = self._ready.poll(0)
        if not (ready and ready[0][1] & select.POLLIN):
            return False
        notification = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notification)
            number, _, _, call = _NOTIFICATION.unpack(notification)
            response = self._decide(self._names.get(call, f"number {call}"))
            fcntl.ioctl(self._listener, _SEND, _RESPONSE.pack(number, 0, *response))
        except OSError as error:
            if error.errno != errno.ENOENT:  # the thread was killed or got a signal: no answer
                raise
        return True

    def _decide(self, name: str) -> tuple[int, int]:
        """The error and the flags of the answer."""
        error = self._bounds.error(name)
        if error == 0:
            self._total += _TENTH
            return 0, _CONTINUE
        self._count(name)
        return -(error or errno.EPERM), 0

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1
        self.last = name
        self._total += 1

    def _readable(self, _: int) -> None:
        """Answer the calls that wait, up to BATCH: the shim has other descriptors to serve."""
        answered = 0
        while answered < BATCH and self.answer():
            answered += 1
        if answered == 0:
            # The waiting thread may be dead. Or the last filtered process has gone (POLLHUP).
            if any(events & select.POLLHUP for _, events in self._ready.poll(0)):
                self._pause(float("inf"))
        elif self._total > FREE:
            self._pause(time.monotonic() + PAUSE_S)

    def _pause(self, until: float) -> None:
        assert self._selector
        self._selector.unregister(self._listener)
        self._due = until

    def resume(self, now: float) -> float | None:
        """Answer again if the pause is over. Returns the end of the pause, or None."""
        if self._due is not None and self._due <= now:
            self._due = None
            self._register()
        return self._due

    def close(self) -> None:
        """Close the listener; the kernel answers from then on."""
        os.close(self._listener)
