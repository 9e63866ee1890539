"""The bounds of a profile for one session and for one owner: connections, bytes and rate. No I/O.

The rate is a bucket: it holds the bytes of one second, and a transfer that has emptied it waits
until it is full enough again. The bytes are counted over a day that begins with the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

DAY_S = 86400.0

RESOLUTIONS = 4
"""Names of one session that are resolved at one time; the others wait."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class NetworkBounds:
    """Open connections, bytes in a day, and bytes a second."""

    connections: int
    bytes: int
    rate: int


@dataclass
class Share:
    """The use of one session or one owner.

    links        runs that have the share
    connections  open ones
    left         bytes that may still be transferred in this day
    resolving    the names that are resolved at this moment
    """

    bounds: NetworkBounds
    clock: Clock
    links: int = 0
    connections: int = 0
    resolving: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RESOLUTIONS))

    def __post_init__(self) -> None:
        self._began = self._at = self.clock()
        self.left = self.bounds.bytes
        self._bucket = float(self.bounds.rate)

    @property
    def has_room(self) -> bool:
        """One more connection may be opened."""
        return self.connections < self.bounds.connections

    def spend(self, size: int) -> None:
        """Count the bytes of a transfer."""
        self._fill()
        self.left -= size
        self._bucket -= size

    @property
    def delay(self) -> float:
        """The seconds that the next transfer has to wait."""
        self._fill()
        return max(0.0, -self._bucket / self.bounds.rate)

    def _fill(self) -> None:
        now = self.clock()
        self._renew(now)
        filled = self._bucket + (now - self._at) * self.bounds.rate
        self._bucket = min(filled, self.bounds.rate)
        self._at = now

    @property
    def is_unused(self) -> bool:
        """No byte has been transferred in this day."""
        self._renew(self.clock())
        return self.left == self.bounds.bytes

    @property
    def is_used_up(self) -> bool:
        """No byte is left in this day."""
        self._renew(self.clock())
        return self.left <= 0

    def _renew(self, now: float) -> None:
        if now - self._began >= DAY_S:
            self._began, self.left = now, self.bounds.bytes
