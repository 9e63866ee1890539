"""The spawner of a warden, seen from the warden: its start, its messages, its end.

A spawner that ends is started again, after a pause. One whose code is of another version than the
warden's, since the files on the disk have been replaced, is not used.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable
from typing import Any

from ... import log
from ...wire import messages
from ..interpreter import Interpreter
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
        self._process = Interpreter("spawner", selector, self._hear, self._forget)
        self.collected, self.stop = self._process.collected, self._process.stop
        self._crashed = crashed
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
            self._process.start(spawner.__name__, spec.write())
        except OSError as error:
            log.event("spawner.failed", logging.ERROR, error=str(error))
            return
        self.spec = spec

    def start_in(self) -> float | None:
        """Seconds until a start is due; None: none is."""
        if self._refused or self.spec:
            return None
        return max(0.0, self._start_at - time.monotonic())

    def make(self, entry: JailEntry) -> None:
        """Have an entry forked. Raises OSError."""
        self._process.send({"make": True}, [entry.end.fileno()])
        entry.end.close()

    def _hear(self, message: dict[str, Any]) -> None:
        if "crashed" in message:
            self._crashed(messages.number(message, "crashed"), str(message.get("signal")))
        elif message.get("ready") == spawner.STAMP:
            self.is_ready = True
        else:
            log.event("spawner.other", logging.WARNING, code=str(message.get("ready")))
            self._refused = True
            self.stop()

    def _forget(self) -> None:
        self.spec, self.is_ready = None, False
