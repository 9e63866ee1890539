"""How fast output is taken, so that a flood pays for being copied. No I/O."""

from __future__ import annotations


class Rate:
    """A bucket that holds `free` bytes and drains at `per_s` bytes a second; times are monotonic.

    Quiet times are no credit: however long a program was silent, `free` is all that it may print
    at once.
    """

    def __init__(self, free: int, per_s: int) -> None:
        self._free, self._per_s = free, per_s
        self._level, self._at = 0.0, 0.0

    def pause(self, size: int, now: float) -> float:
        """Seconds to take nothing more, now that `size` bytes have been taken."""
        self._level = max(0.0, self._level - (now - self._at) * self._per_s) + size
        self._at = now
        return max(0.0, (self._level - self._free) / self._per_s)
