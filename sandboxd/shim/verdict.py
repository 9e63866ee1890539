"""What became of a step, from its exit status and the kernel's counters, in a fixed order.

The order decides between causes that come together: a limit that sandboxd enforced is the
cause of the signal that it sent; an out-of-memory kill is the cause of a SIGKILL that nobody
here sent; then the status itself speaks. A limit that only the program's last words name leaves
the outcome a failure. No I/O, so that the table can be tested whole.

Who sent a signal is known of those that sandboxd sends. Of others the kernel tells the receiver
alone; but some come from the kernel whenever they are meant, and the rest can only come from
the run's own processes, since no others can see them.
"""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import asdict

from ..model import Change, Outcome, Sender, Verdict
from . import advice
from .facts import StepFacts

FAULTS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS", "SIGXFSZ", "SIGPIPE")
"""Signals by which the kernel answers what the program does, at the moment that it does it."""

_FSIZE_EXIT = 128 + signal.SIGXFSZ

_LAST_WORDS = {errno.ENOSPC: "disk", errno.EMFILE: "nofile", errno.EFBIG: "fsize"}
"""Errors that the kernel tells nobody but the program -> the limit that they speak of."""


def judge(facts: StepFacts) -> Verdict:
    """The verdict of a step that is over."""
    outcome, limit = _cause(facts)
    sender = _sender(facts)
    return Verdict(
        outcome=outcome,
        limit=limit,
        signal="SIGKILL" if facts.requested else facts.signal,
        sent_by=sender,
        oom=facts.oom,
        denied_syscall=facts.last_denied,
        denied=dict(facts.denied),
        counters=_counters(facts),
        usage=facts.usage,
        advice=advice.of(outcome, limit, sender, facts),
    )


def _cause(facts: StepFacts) -> tuple[Outcome, str | None]:
    """The outcome, and the limit that was reached."""
    if facts.requested:
        return "signal", None
    if facts.ended_by:
        return "limit", facts.ended_by
    if facts.exit != 0 and (limit := _proved(facts)):
        return "limit", limit
    if facts.exit is None:
        return "fault", None
    limit = _complained_of(facts) if facts.exit else None
    if limit is None and facts.over:
        limit = "output"
    if facts.signal:
        return "signal", limit
    return "failure" if facts.exit else "success", limit


def _proved(facts: StepFacts) -> str | None:
    """The limit of which the kernel says that the step has run into it."""
    if facts.oom:
        return "memory"
    if facts.exit is None:
        return None
    if facts.after.pids_refused > facts.before.pids_refused:
        return "pids"
    if facts.signal == "SIGXFSZ" or facts.exit == _FSIZE_EXIT:
        return "fsize"
    if facts.full:
        return "disk" if facts.full.startswith("folder ") else facts.full
    return None


def _complained_of(facts: StepFacts) -> str | None:
    """The limit of which the program itself says that it has run into it."""
    for number, limit in _LAST_WORDS.items():
        if os.strerror(number) in facts.said:
            return limit
    return None


def _sender(facts: StepFacts) -> Sender | None:
    """Who sent the signal that ended the step's first process."""
    if facts.requested:
        return facts.requested
    if facts.ended_by:
        return "sandboxd"
    if facts.signal is None:
        return None
    if facts.status is not None and (asked := facts.asked.get(os.WTERMSIG(facts.status))):
        return asked
    if facts.signal in FAULTS or (facts.oom and facts.signal == "SIGKILL"):
        return "kernel"
    return "program"


def _counters(facts: StepFacts) -> dict[str, Change]:
    """What the kernel counts, at the step's beginning and its end."""
    before = asdict(facts.before) | {f"disk_{k}": v for k, v in asdict(facts.stored_before).items()}
    after = asdict(facts.after) | {f"disk_{k}": v for k, v in asdict(facts.stored).items()}
    peaks = ("memory_peak", "pids_peak")  # no counts, and told in the usage
    found = {name: Change(before[name], after[name]) for name in after if name not in peaks}
    return found | {"denied_syscalls": Change(0, sum(facts.denied.values()))}
