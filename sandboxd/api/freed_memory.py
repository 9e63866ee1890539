"""The memory of the process, as the C library manages it (mallopt(3)).

glibc raises its threshold for blocks of their own (mmap) whenever such a block is freed, up to 32
MiB. From then on messages and bodies of megabytes lie between small objects, and the memory of a
flood is not given back when the flood is over. A threshold that is set does not move.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_BLOCK = 128 * 1024
"""Bytes from which on a block is the kernel's again as soon as it is freed."""

_TOP = 1 << 20
"""Free bytes at the end of the heap that the process keeps."""

_ARENAS = 2
"""Heaps: without this bound, up to eight for each processor, of which each keeps its own memory."""


def return_when_freed() -> None:
    """Give large blocks back to the kernel when they are freed. A C library without mallopt is left
    as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    for parameter, value in (
        (_M_MMAP_THRESHOLD, _BLOCK),
        (_M_TRIM_THRESHOLD, _TOP),
        (_M_ARENA_MAX, _ARENAS),
    ):
        mallopt(parameter, value)
