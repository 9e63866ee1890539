"""The variables of every step, whatever its runtime. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from ..jail.rootfs import shown_cpus
from ..model import ALIASES, HOME, MIB, PATH, Limits
from . import broker_socket

VARIABLES = {
    "TERM": "xterm",
    "LANG": "C.UTF-8",
    "SHELL": "/bin/bash",
    "USER": "work",
    "HOME": HOME,
    "PATH": f"{HOME}/.local/bin:{PATH}:{ALIASES}",
    # The leak detection of -fsanitize=address stops the threads of the program by ptrace(2). Where
    # ptrace is refused, it ends every program with an error.
    "LSAN_OPTIONS": "detect_leaks=0",
}
"""The runtime, the session and the run may replace each of them. LSAN_OPTIONS of their own that do
not say whether to look for leaks are completed by this one: projects name suppressions there."""

OFFLINE = {"npm_config_fetch_retries": "0", "PIP_RETRIES": "0"}
"""Without a network npm would try again for 70 s and pip for 8 s before they say that their server
has no address."""

UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
"""A question of Python is seen before the answer is awaited. Each print is a system call then, so
only a program that may ask somebody has the variable."""

GO_PART = 0.9
"""Part of the memory that the heap of a Go program may take before it is collected more often. The
rest is for what the collector does not count: stacks, cgo, the page cache."""

NODE_HEAP = 256 * MIB
"""The least heap that V8 takes where it sees the limit of memory in the cgroup."""
NODE_REST = 48 * MIB
"""Memory that Node takes besides its heap."""


def of_limits(limits: Limits) -> dict[str, str]:
    """The variables that tell run-times the step's share of memory and CPUs.

    A JVM, Node and .NET read the run's own cgroup (jail/rootfs.py). The variables are for programs
    that read none. Only variables belong here at which no program prints a word: JAVA_TOOL_OPTIONS
    and its kin do.
    """
    count = str(shown_cpus(limits.cpus))
    return _of_node(limits.memory) | {
        "GOMAXPROCS": count,
        "GOMEMLIMIT": str(int(limits.memory * GO_PART)),
        "OMP_NUM_THREADS": count,  # also nproc(1), OpenBLAS, MKL
        "PYTHON_CPU_COUNT": count,  # os.cpu_count of Python 3.13
        "JULIA_CPU_THREADS": count,
    }


def _of_node(memory: int) -> dict[str, str]:
    """A smaller heap for Node, where the limit of memory does not have room for V8's least."""
    if memory >= NODE_HEAP + NODE_REST:
        return {}
    heap = max(memory - NODE_REST, memory // 4) // MIB
    return {"NODE_OPTIONS": f"--max-old-space-size={heap}"}


def of_step(
    limits: Limits, may_ask: bool, own: Mapping[str, str], network: bool = False
) -> dict[str, str]:
    """The variables of a step that has these limits and these of its `own`, and may ask a client,
    or not, and has a `network`, or not."""
    unbuffered = UNBUFFERED if may_ask else {}
    ways = broker_socket.VARIABLES if network else OFFLINE
    sanitizer = own.get("LSAN_OPTIONS", "detect_leaks")
    if "detect_leaks" not in sanitizer:
        own = {**own, "LSAN_OPTIONS": f"{sanitizer}:{VARIABLES['LSAN_OPTIONS']}"}
    return {**VARIABLES, **of_limits(limits), **unbuffered, **ways, **own}
