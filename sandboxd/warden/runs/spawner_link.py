"""The spawner of a warden, seen from the warden: its start, its messages, its end.

A spawner that ends is started again, after a pause. One whose code is of another version than the
warden's, since the files on the disk have been replaced, is not used.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable

from ... import log, wire
from . import spawner
from .jail_entry import JailEntry
from .spawner import SpawnerSpec

RESTART_S = 5.0
"""Between two starts of a spawner."""

Crashed = Callable[[int, str], None]
"""Called with the pid of an entry that a fault has ended, and the name of the signal."""


class SpawnerLink:
    """The spawner of one warden.

    spec      the values that it was started with; None: there is none
    is_ready  it can make entries
    """

    def __init__(self, selector: selectors.BaseSelector, crashed: Crashed) -> None:
        self._selector = selector
        self._crashed = crashed
        self._process: tuple[int, socket.socket] | None = None
        self._start_at = 0.0
        self._refused = False
        self.spec: SpawnerSpec | None = None
        self.is_ready = False

    def start(self, spec: SpawnerSpec) -> None:
        """Start a spawner, if that is due."""
        now = time.monotonic()
        if self._refused or now < self._start_at:
            return
        self._start_at = now + RESTART_S
        try:
            self._process = spawner.start(spec)
        except OSError as error:
            log.event("spawner.failed", logging.ERROR, error=str(error))
            return
        self.spec = spec
        self._selector.register(self._process[1], selectors.EVENT_READ, self._hear)

    def start_in(self) -> float | None:
        """Seconds until a start is due; None: none is."""
        if self._refused or self.spec:
            return None
        return max(0.0, self._start_at - time.monotonic())

    def make(self, entry: JailEntry) -> None:
        """Have an entry forked. Raises OSError."""
        assert self._process
        wire.send(self._process[1], {"make": True}, [entry.end.fileno()])
        entry.end.close()

    def _hear(self) -> None:
        """Take in a message of the spawner, or its end."""
        assert self._process
        try:
            message = wire.receive_plain(self._process[1])
        except BlockingIOError:
            return
        if message is None:
            self._log_end()
            self.stop()
        elif "crashed" in message:
            self._crashed(wire.number(message, "crashed"), str(message.get("signal")))
        elif message.get("ready") == spawner.STAMP:
            self.is_ready = True
        else:
            log.event("spawner.other", logging.WARNING, code=str(message.get("ready")))
            self._refused = True
            self.stop()

    def collected(self, pid: int) -> None:
        """A child of the warden has ended. It need not be the spawner."""
        if self._process and self._process[0] == pid:
            self._log_end()
            self._forget()

    def stop(self, wait: bool = False) -> None:
        """End the spawner, if there is one, and with `wait` collect it."""
        if self._process:
            pid = self._process[0]
            os.kill(pid, signal.SIGKILL)  # not collected yet: the pid is still its own
            if wait:
                os.waitpid(pid, 0)
            self._forget()

    def _forget(self) -> None:
        if self._process:
            self._selector.unregister(self._process[1])
            self._process[1].close()
        self._process, self.spec, self.is_ready = None, None, False

    def _log_end(self) -> None:
        assert self._process
        log.event("spawner.ended", logging.ERROR, pid=self._process[0])
