"""The memory of the host, or of the container that is the host of this daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from . import procfs
from .cgroupfs import ROOT, GroupFiles


def size() -> int:
    """Bytes of memory."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *_of_container(GroupFiles.memory_limit)])


def available() -> int:
    """Bytes that programs can have before the host has to swap, or to kill."""
    return min([_of_host(), *_of_container(GroupFiles.memory_left)])


def _of_host() -> int:
    """The bytes that the kernel calls available (proc_meminfo(5))."""
    for line in procfs.read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo has no MemAvailable")


def _of_container(value: Callable[[GroupFiles], int]) -> Iterator[int]:
    """A value of the groups that limit the memory of a container, whose own group is its root."""
    for dirs in ({"": ROOT}, {"memory": f"{ROOT}/memory"}):
        group = GroupFiles(dirs)
        with suppress(OSError, ValueError):  # a host, whose root has no limit, or no such tree
            if group.memory_limit() >= 0:
                yield value(group)
