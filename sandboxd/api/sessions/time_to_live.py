"""The time to live of a session: the session ends when its holder is gone.

The holder is the client for which the session was made, such as a command line or a CI job. It
renews the time to live by a request, or it holds the session by an open connection. When neither
has happened for the time to live, the reaper ends the session with all that goes on in it.

A holder cannot reach a daemon that is away. After a start each session therefore has some time
until its holder must be back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ...host.uptime import uptime

RETURN_S = 60.0
"""Seconds after a start of the daemon in which the holder of a session may come back."""


class TimeToLive:
    """The holders of one session, and its last renewal.

    renewed_at  seconds since 1970, more exact than the row
    over        the session or the daemon ends: no connection holds the session any more
    """

    def __init__(self, renewed_at: float) -> None:
        self.renewed_at = renewed_at
        self.over = asyncio.Event()
        self._connections = 0
        self._awaited_until = 0.0

    @property
    def is_held(self) -> bool:
        """A connection holds the session."""
        return self._connections > 0

    def await_holder(self) -> None:
        """The daemon has just started: the holder has some time to come back."""
        self._awaited_until = uptime() + RETURN_S

    def renew(self, now: float) -> None:
        """The holder is there at the date `now`."""
        self.renewed_at, self._awaited_until = now, 0.0

    @contextmanager
    def held(self) -> Iterator[None]:
        """A connection holds the session for the time of the block."""
        self._connections += 1
        try:
            yield
        finally:
            self._connections -= 1
            self.renew(time.time())

    def look(self, now: float) -> None:
        """Note the date `now`, which the reaper has read. It is also the latest renewal when the
        clock has been set back."""
        self.renewed_at = now if self.is_held else min(self.renewed_at, now)

    def end(self, ttl_s: float, now: float) -> float | None:
        """The date at which a session with the time to live `ttl_s` ends if its holder does
        nothing; None: it does not."""
        if not ttl_s or self.is_held:
            return None
        return max(self.renewed_at + ttl_s, now + self._awaited_until - uptime())
