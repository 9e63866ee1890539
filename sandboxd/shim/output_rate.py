"""How fast output is taken, so that a flood pays for being copied. No I/O."""

from __future__ import annotations


class OutputRate:
    """A bucket that holds `free` bytes and drains at `per_s` bytes a second; times are monotonic.

    A piece counts as `least` bytes at least, for taking it costs as much however small it is:
    else a program could keep us busy byte by byte.

    Quiet times are no credit: however long a program was silent, `free` is all that it may print
    at once.
    """

    def __init__(self, free: int, per_s: int, least: int = 1) -> None:
        self._free, self._per_s, self._least = free, per_s, least
        self._level, self._at = 0.0, 0.0

    def pause(self, size: int, now: float) -> float:
        """Seconds to take nothing more, now that `size` bytes have been taken."""
        self._level = max(0.0, self._level - (now - self._at) * self._per_s)
        self._level += max(size, self._least)
        self._at = now
        return max(0.0, (self._level - self._free) / self._per_s)
