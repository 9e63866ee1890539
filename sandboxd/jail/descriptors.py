"""The descriptors of a new process: it closes all that it has inherited and does not use."""

from __future__ import annotations

import os
from collections.abc import Iterable


def close_others(keep: Iterable[int], to_null: Iterable[int] = (0, 1, 2)) -> None:
    """Close every descriptor except `keep` and the three standard ones. Those in `to_null` become
    /dev/null of this process's root."""
    for fd in to_null:
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, fd)
    low = 3
    for fd in sorted(keep):
        if fd >= low:
            os.closerange(low, fd)
            low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
