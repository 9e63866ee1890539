"""The settings of a cgroup: the files and values that limit it, in the order of writing. No I/O."""

from __future__ import annotations

from .cgroupfs import UNLIMITED, V1_SOCKETS


def memory(v2: bool, limit: int, sockets: int) -> list[tuple[str, str]]:
    """A limit of memory without swap. v1 counts the buffers of sockets apart."""
    if v2:
        return [("memory.swap.max", "0"), ("memory.oom.group", "0"), ("memory.max", str(limit))]
    return [
        # memsw may never be below the memory limit: lift it, set the limit, then close it.
        ("memory.memsw.limit_in_bytes", UNLIMITED),
        ("memory.limit_in_bytes", str(limit)),
        ("memory.memsw.limit_in_bytes", str(limit)),
        (V1_SOCKETS, str(sockets)),
    ]


def cpu(v2: bool, quota_us: int, period_us: int) -> list[tuple[str, str]]:
    """So much CPU time in each period."""
    if v2:
        return [("cpu.max", f"{quota_us} {period_us}")]
    return [("cpu.cfs_period_us", str(period_us)), ("cpu.cfs_quota_us", str(quota_us))]
