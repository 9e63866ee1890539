"""The limits of each process (getrlimit(2)): the second wall behind the cgroup.

Soft and hard limits are alike, so programs cannot raise them. The stack is the exception: compilers
raise its soft limit for themselves, and the memory limit of the run bounds it. A hard limit that is
already lower than the wanted one stays, since raising needs CAP_SYS_RESOURCE. Init cannot raise its
limits: it has the largest of all steps, and a step with smaller ones gets them by `lower`.
"""

from __future__ import annotations

import resource
from operator import attrgetter

from ..model import MIB, TERMINALS_MAX, UNLIMITED, Limits
from .stage import expect, stage

FURTHER_TASKS = 16
"""RLIMIT_NPROC counts every task of the uid: shim, init and file helpers come on top."""

RUNS_AT_ONCE = 1 + TERMINALS_MAX
"""RLIMIT_NPROC also counts the tasks of all runs of the session. The cgroup limits each run."""


def plan(limits: Limits) -> dict[int, int]:
    """Resource -> limit, in the resource's unit."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits.fsize,
        resource.RLIMIT_NOFILE: limits.nofile,
        resource.RLIMIT_NPROC: (limits.pids + FURTHER_TASKS) * RUNS_AT_ONCE,
        resource.RLIMIT_MEMLOCK: 8 * MIB,
        resource.RLIMIT_MSGQUEUE: 800 * 1024,
        resource.RLIMIT_SIGPENDING: 4096,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_STACK: limits.stack,
    }
    return {kind: _within_hard(kind, value) for kind, value in wanted.items()}


def _within_hard(kind: int, value: int) -> int:
    hard = resource.getrlimit(kind)[1]
    if hard == resource.RLIM_INFINITY:
        return hard if value >= UNLIMITED else value
    return min(value, hard)


def _pair(kind: int, value: int) -> tuple[int, int]:
    """The soft and the hard limit. The hard limit of the stack stays as it is."""
    hard = resource.getrlimit(kind)[1] if kind == resource.RLIMIT_STACK else value
    return value, hard


_OF_PLAN = attrgetter("fsize", "nofile", "pids", "stack")
"""The limits of a step that its plan depends on."""


def lower(step: Limits, all: Limits) -> dict[int, int]:
    """The limits of the plan for `step` that differ from the plan for `all`, which is in force."""
    if _OF_PLAN(step) == _OF_PLAN(all):
        return {}
    inherited = plan(all)
    return {kind: value for kind, value in plan(step).items() if value != inherited[kind]}


def apply(wanted: dict[int, int]) -> None:
    """Set each limit of the plan, soft and hard (of the stack the soft one)."""
    with stage("rlimits"):
        for kind, value in wanted.items():
            resource.setrlimit(kind, _pair(kind, value))


def verify(wanted: dict[int, int]) -> None:
    """Each limit is what the plan says."""
    with stage("rlimits"):
        for kind, value in wanted.items():
            expect("rlimits", f"resource {kind}", resource.getrlimit(kind), _pair(kind, value))
