"""The memory of the host, or of the container that is the host of this daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .cgroupfs import ROOT

_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit and usage of a container, whose root its own group is, with v2 and v1; and the part of the
usage that the kernel takes back first, as memory.stat names it."""


def size() -> int:
    """Bytes of memory."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *_ceilings()])


def available() -> int:
    """Bytes that programs can have before the host has to swap, or to kill."""
    return min([_field("/proc/meminfo", "MemAvailable:") * 1024, *_rests()])


def _ceilings() -> Iterator[int]:
    """The memory limits of a container. No limit of v1 is ~2^63."""
    for limit, _, _ in _FILES:
        with suppress(OSError, ValueError):  # no such file, or "max"
            yield int(Path(ROOT, limit).read_text())


def _rests() -> Iterator[int]:
    """The rests of the memory limits of a container."""
    for limit, usage, cache in _FILES:
        with suppress(OSError, ValueError):
            left = int(Path(ROOT, limit).read_text()) - int(Path(ROOT, usage).read_text())
            yield left + _field(str(Path(ROOT, limit).with_name("memory.stat")), cache)


def _field(path: str, name: str) -> int:
    """The number behind `name` at the beginning of a line. Raises OSError, ValueError."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    raise ValueError(f"{path} has no {name}")
