"""The vitals of the warden: its memory, descriptors, age and last fork, the answer to a ping."""

from __future__ import annotations

import os
import time
from typing import Any

from .. import log
from .fork import LAST

_PAGE = os.sysconf("SC_PAGE_SIZE")
_BEGAN = time.monotonic()


def vitals() -> dict[str, Any]:
    """The vitals of this moment."""
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * _PAGE
    return {
        "resident_memory_bytes": resident,
        "open_fds": len(os.listdir("/proc/self/fd")),
        "uptime_seconds": round(time.monotonic() - _BEGAN, 3),
        "log_lines_dropped": log.dropped(),
        "fork_errno": LAST.errno,
    }
