"""The rules for the verdict of a step, from its exit status and the kernel's counters. No I/O.

The rules have a fixed order, which decides between causes that come together. A limit that sandboxd
enforced explains the signal that sandboxd sent. An out-of-memory kill explains a SIGKILL that
sandboxd did not send. After these the exit status decides. A limit that only the program's output
names does not change the outcome, which stays a failure.

sandboxd knows the sender of its own signals. The kernel reports the sender of any other signal to
the receiver only. Some signals come from the kernel in practice. All others come from processes of
the run itself, since no process outside the run can reach them.
"""

from __future__ import annotations

import errno
import os

from ..model import Change, Outcome, Sender, Verdict, record
from . import advice
from .facts import WORKSPACE, StepFacts, StorageUse

OF_KERNEL = (
    "SIGSEGV",
    "SIGBUS",
    "SIGILL",
    "SIGFPE",
    "SIGTRAP",
    "SIGSYS",
    "SIGXFSZ",
    "SIGPIPE",
)
"""Signals that the kernel sends for an act of the program, at the moment of that act."""

_OUTPUT_ERRORS = {errno.ENOSPC: "disk", errno.EMFILE: "nofile", errno.EFBIG: "fsize"}
"""Errors that only the program gets from the kernel -> the limit that each stands for."""


def judge(facts: StepFacts) -> Verdict:
    """The verdict of a finished step."""
    outcome, limit = _cause(facts)
    sender = _sender(facts)
    return Verdict(
        outcome=outcome,
        limit=limit,
        signal="SIGKILL" if facts.killed_by else facts.signal,
        sent_by=sender,
        oom=facts.oom,
        denied_syscall=facts.last_denied,
        denied=dict(facts.denied),
        counters=_counters(facts),
        usage=facts.usage,
        advice=advice.of(outcome, limit, sender, facts),
    )


_ENDS = ("success", "failure", "signal")
"""The outcomes of a program that has ended by itself."""


def is_clean(facts: StepFacts, verdict: Verdict) -> bool:
    """The step has ended by itself, has tried nothing that the jail forbids, and has reached no
    limit, whatever its exit code says."""
    ended = verdict.outcome in _ENDS and verdict.limit is None and facts.exit is not None
    by_itself = not (facts.ended_by or facts.killed_by or facts.external_signals)
    return ended and by_itself and not facts.denied and _limit_from_kernel(facts) is None


def _cause(facts: StepFacts) -> tuple[Outcome, str | None]:
    """The outcome and the reached limit."""
    if facts.killed_by:
        return "signal", None
    if facts.ended_by:
        return "limit", facts.ended_by
    if facts.exit != 0 and (limit := _limit_from_kernel(facts)):
        return "limit", limit
    if facts.exit is None:
        return "fault", None
    limit = _limit_from_output(facts) if facts.exit else None
    if limit is None and facts.excess:
        limit = "output"
    if facts.signal:
        return "signal", limit
    return "failure" if facts.exit else "success", limit


def _limit_from_kernel(facts: StepFacts) -> str | None:
    """The limit that the step reached according to the kernel."""
    if facts.oom:
        return "memory"
    if facts.exit is None:
        return None
    if facts.after.pids_refused > facts.before.pids_refused:
        return "pids"
    # An exit code of 128 + n proves no signal: any program may return it.
    if facts.signal == "SIGXFSZ":
        return "fsize"
    if facts.full:
        is_of_host = facts.full == WORKSPACE or facts.full.startswith("folder ")
        return "disk" if is_of_host else facts.full
    return None


def _limit_from_output(facts: StepFacts) -> str | None:
    """The limit that the step reached according to the end of its output."""
    for number, limit in _OUTPUT_ERRORS.items():
        if os.strerror(number) in facts.last_output:
            return limit
    return None


def _sender(facts: StepFacts) -> Sender | None:
    """The sender of the signal that ended the first process of the step."""
    if facts.killed_by:
        return facts.killed_by
    if facts.ended_by:
        return "sandboxd"
    if facts.signal is None:
        return None
    if facts.status is not None:
        sender = facts.external_signals.get(os.WTERMSIG(facts.status))
        if sender:
            return sender
    if facts.signal in OF_KERNEL or (facts.oom and facts.signal == "SIGKILL"):
        return "kernel"
    return "program"


def _counters(facts: StepFacts) -> dict[str, Change]:
    """The kernel's counters at the beginning and at the end of the step."""
    before = record(facts.before) | _of_disk(facts.stored_before)
    after = record(facts.after) | _of_disk(facts.stored)
    peaks = ("memory_peak", "pids_peak")  # not counters; they are part of the usage
    changes = {name: Change(before[name], after[name]) for name in after if name not in peaks}
    return changes | {"denied_syscalls": Change(0, sum(facts.denied.values()))}


def _of_disk(stored: StorageUse) -> dict[str, int]:
    return {f"disk_{name}": value for name, value in record(stored).items()}
