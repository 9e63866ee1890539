"""The clock of the host that nobody sets: the time since the boot."""

from __future__ import annotations

import time


def uptime() -> float:
    """Seconds for which the host has been running, those of its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
