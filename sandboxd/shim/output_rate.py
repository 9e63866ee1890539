"""The rate at which output is read, so that a flood pays for its copying. No I/O."""

from __future__ import annotations


class OutputRate:
    """A leaky bucket of `free` bytes that drains at `per_s` bytes a second. Times are monotonic.

    A piece counts as `least` bytes at least, since a read costs the same however small its piece
    is. Otherwise a program could keep the shim busy byte by byte.

    Silence earns no credit: a program may print `free` bytes at once, however long it was silent.
    """

    def __init__(self, free: int, per_s: int, least: int = 1) -> None:
        self._free, self._per_s, self._least = free, per_s, least
        self._level, self._at = 0.0, 0.0

    def pause(self, size: int, now: float) -> float:
        """Count a read of `size` bytes. Returns the seconds until the next read is allowed."""
        self._level = max(0.0, self._level - (now - self._at) * self._per_s)
        self._level += max(size, self._least)
        self._at = now
        return max(0.0, (self._level - self._free) / self._per_s)
