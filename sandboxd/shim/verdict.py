"""What became of a step, from its exit status and the kernel's counters, in a fixed order.

The order decides between causes that come together: a limit that sandboxd enforced is the
cause of the signal that it sent; an out-of-memory kill is the cause of a SIGKILL that nobody
here sent; then the status itself speaks. No I/O, so that the table can be tested whole.
"""

from __future__ import annotations

import os
import signal

from ..jail.cgroup import Counters
from ..model import MIB, Limits, Usage, Verdict

TIMED = ("wall_s", "cpu_s")
"""Limits that end the whole run when a step reaches them."""


def exit_code(status: int) -> int:
    """The exit code of a wait status: 128 + n for death by signal n, as shells have it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def judge(
    status: int | None, ended_by: str | None, limits: Limits, before: Counters, usage: Usage,
    after: Counters,
) -> Verdict:  # fmt: skip
    """The verdict of a step.

    status    wait status of its first process; None when all was ended from outside
    ended_by  the limit ("wall_s", "cpu_s") for which the shim ended it, or None
    """
    oom = after.oom_kills > before.oom_kills
    killed = _signal(status)
    if ended_by is not None:
        return Verdict("limit", ended_by, killed, oom, None, usage, _timed(ended_by, limits))
    if oom and (status is None or exit_code(status) != 0):
        return Verdict("limit", "memory", killed, True, None, usage, _memory(limits, usage))
    if status is None:
        return Verdict("fault", None, None, oom, None, usage, "the run's init ended unexpectedly")
    refused = after.pids_refused > before.pids_refused
    if refused and exit_code(status) != 0:
        return Verdict("limit", "pids", killed, oom, None, usage, _pids(limits))
    if killed:
        return Verdict("signal", None, killed, oom, None, usage, f"the program died of {killed}")
    return Verdict("success" if exit_code(status) == 0 else "failure", None, None, oom, None, usage)


def killed(usage: Usage) -> Verdict:
    """The verdict of a step that a client ended, and the run with it."""
    return Verdict("signal", None, "SIGKILL", False, None, usage, "the run was ended on request")


def _signal(status: int | None) -> str | None:
    if status is None or not os.WIFSIGNALED(status):
        return None
    number = os.WTERMSIG(status)
    try:
        return signal.Signals(number).name
    except ValueError:  # only the first and the last real-time signal have a name
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _timed(limit: str, limits: Limits) -> str:
    if limit == "wall_s":
        return (
            f"time limit of {limits.wall_s:g} s reached; ask for more with options.timeout, "
            "or look for a loop or a wait that never ends"
        )
    return f"CPU limit of {limits.cpu_s:g} CPU seconds reached; ask for more with limits.cpu_s"


def _memory(limits: Limits, usage: Usage) -> str:
    return (
        f"memory limit of {limits.memory // MIB} MiB reached by up to {usage.pids_peak or 1} "
        "processes; ask for more with resources.mem, or run fewer at once (make -j1)"
    )


def _pids(limits: Limits) -> str:
    return (
        f"limit of {limits.pids} processes and threads reached; ask for more with limits.pids, "
        "or start fewer at once"
    )
