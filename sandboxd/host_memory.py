"""The memory of the host, or of the container that is the host of this daemon."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .cgroupfs import ROOT


def size() -> int:
    """Bytes of memory."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *_ceilings()])


def _ceilings() -> list[int]:
    """The memory limits of a container, whose root its own group is. No limit of v1 is ~2^63."""
    ceilings = []
    for path in (f"{ROOT}/memory.max", f"{ROOT}/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file, or "max"
            ceilings.append(int(Path(path).read_text()))
    return ceilings
