"""The groups of rows, one module each, by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable

from ..bench import Bench
from ..rows import Measured
from . import bandwidth, compiler, cpu, latency, rest, sessions, syscalls, throughput

GROUPS: dict[str, Callable[[Bench], Measured]] = {
    "latency": latency.measure,
    "throughput": throughput.measure,
    "cpu": cpu.measure,
    "sessions": sessions.measure,
    "syscalls": syscalls.measure,
    "compile": compiler.measure,
    "bandwidth": bandwidth.measure,
    "rest": rest.measure,
}
"""Name -> the function that measures the rows of the group."""
