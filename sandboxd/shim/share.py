"""The environment variables that tell run-times the step's share of memory and CPUs.

A JVM, Node and .NET read the run's own cgroup (jail/rootfs.py). The variables are for programs that
read none. Only variables belong here at which no program prints a word: JAVA_TOOL_OPTIONS and its
kin do. Variables of the runtime, the session and the run come later and replace them.
"""

from __future__ import annotations

from ..jail.rootfs import shown_cpus
from ..model import Limits

GO_PART = 0.9
"""Part of the memory that the heap of a Go program may take before it is collected more often. The
rest is for what the collector does not count: stacks, cgo, the page cache."""


def variables(limits: Limits) -> dict[str, str]:
    """The variables of a step with these limits."""
    count = str(shown_cpus(limits.cpus))
    return {
        "GOMAXPROCS": count,
        "GOMEMLIMIT": str(int(limits.memory * GO_PART)),
        "OMP_NUM_THREADS": count,  # also nproc(1), OpenBLAS, MKL
        "PYTHON_CPU_COUNT": count,  # os.cpu_count of Python 3.13
        "JULIA_CPU_THREADS": count,
    }
