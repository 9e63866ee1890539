"""The settings of a cgroup: the files of a run, and the values that limit it, in the order of
writing. No I/O."""

from __future__ import annotations

UNLIMITED = "-1"
V1_SOCKETS = "memory.kmem.tcp.limit_in_bytes"
"""Buffers of sockets. v1 counts them apart from memory, and only with a limit of their own. Without
one a program could fill them up to the bound of the whole host (net.ipv4.tcp_mem; tcp(7))."""

PEAKS = ("memory.max_usage_in_bytes", "memory.peak")
NEED_SWAP = ("memory.swap.max", "memory.memsw.limit_in_bytes")
V1_FILES = """
    memory.limit_in_bytes memory.memsw.limit_in_bytes memory.kmem.tcp.limit_in_bytes
    memory.max_usage_in_bytes memory.failcnt memory.memsw.failcnt memory.oom_control memory.stat
    pids.max pids.current pids.peak pids.events cpu.cfs_period_us cpu.cfs_quota_us cpuacct.usage
"""
V2_FILES = """
    memory.max memory.swap.max memory.oom.group memory.peak memory.events memory.stat
    pids.max pids.current pids.peak pids.events cpu.max cpu.stat
"""
OPTIONAL = (
    *NEED_SWAP, V1_SOCKETS, "memory.memsw.failcnt", "memory.peak", "pids.peak", "pids.events",
)  # fmt: skip
"""Files that some kernels do not have."""
WRITTEN = (
    *PEAKS, *NEED_SWAP, V1_SOCKETS, "memory.max", "memory.oom.group", "pids.max", "cpu.max",
    "memory.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us",
)  # fmt: skip


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
