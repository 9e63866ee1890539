"""One line for each verdict on which a user can act; "" when there is nothing to say. No I/O."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ..model import GIB, MIB, Outcome, Sender
from .facts import StepFacts, signal_name

INIT_LOST = "the run's init ended unexpectedly"
REQUESTED = "the run was ended on request"
DRAINED = (
    "the server was being drained, and the run had not ended by its deadline; run it again later"
)
NO_MEMORY_LEFT = (
    "files in memory that an earlier step has left are more than the memory limit of {}; remove "
    "them there, or ask for more with resources.mem"
)
OOM_SURVIVED = "processes of it were killed for want of memory, which it did not report"

_MEANINGS = {
    "SIGSEGV": "it used memory that it does not have; look for a bad pointer or index, "
    "or endless recursion",
    "SIGBUS": "it used a part of a mapped file that is not there",
    "SIGILL": "it ran an instruction that this CPU does not have, or a trap of its compiler",
    "SIGFPE": "it divided an integer by zero, or the result had no room",
    "SIGABRT": "it gave itself up (abort); what it printed last says why",
    "SIGTRAP": "it ran into a breakpoint or a check of its compiler",
    "SIGPIPE": "it wrote to a pipe or socket that nobody reads any more",
    "SIGALRM": "a timer of its own ran out, and it does not handle the signal",
    "SIGSYS": "it made a system call of another architecture, as 32-bit programs do, or one "
    "that a filter of its own forbids; build it for 64 bits",
}


def of(outcome: Outcome, limit: str | None, sender: Sender | None, facts: StepFacts) -> str:
    """The advice of a verdict."""
    words = [_of(outcome, limit, sender, facts), _host_full(facts)]
    return "; ".join(word for word in words if word)


def _host_full(facts: StepFacts) -> str:
    if facts.unwritten:
        return (
            f"the server's disk was full: {facts.unwritten} bytes of output are lost, and files "
            "that were written may be"
        )
    return "the server's disk was full: files that it wrote may be lost" if facts.host_full else ""


def _of(outcome: Outcome, limit: str | None, sender: Sender | None, facts: StepFacts) -> str:
    if facts.requested:
        return DRAINED if facts.requested == "sandboxd" else REQUESTED
    if outcome == "fault":
        return INIT_LOST
    if outcome == "limit" or limit not in (None, "output"):
        return _LIMITS[limit or ""](facts)
    words = [_ending(sender, facts)]
    if limit == "output":
        words.append(_output(facts))
    return "; ".join(word for word in words if word)


def _ending(sender: Sender | None, facts: StepFacts) -> str:
    """About an end that no limit explains."""
    if facts.exit == 0:
        return OOM_SURVIVED if facts.oom else ""
    if facts.exit == 126:
        return (
            "exit status 126: a file was found that cannot be executed; make it executable "
            "(chmod +x, in the build step) or name its interpreter"
        )
    if facts.exit == 127:
        return (
            "exit status 127: a command was not found; see the name in its output, and whether "
            "the runtime has it or the build has made it (./NAME)"
        )
    if facts.last_denied:
        return _denied(facts)
    if facts.signal:
        return DRAINED if sender == "sandboxd" else _died(facts.signal, sender)
    if facts.exit and 128 < facts.exit <= 128 + signal.SIGRTMAX:
        name = signal_name(facts.exit - 128)
        meaning = _MEANINGS.get(name, "")
        text = f"exit status {facts.exit} is how a shell tells that a program died of {name}"
        return f"{text}: {meaning}" if meaning else text
    return ""


def _died(name: str, sender: Sender | None) -> str:
    by = {"kernel": "the kernel", "client": "a client"}.get(
        sender or "", "a process of the run itself"
    )
    text = f"it was ended by {name}, sent by {by}"
    return f"{text}: {_MEANINGS[name]}" if name in _MEANINGS else text


def _denied(facts: StepFacts) -> str:
    calls = sum(facts.denied.values())
    often = "once" if calls == 1 else f"{calls} times"
    others = [name for name in facts.denied if name != facts.last_denied]
    among = f" (and {', '.join(sorted(others)[:5])})" if others else ""
    text = f"it was refused the system call {facts.last_denied}{among} {often}; no program may here"
    end = f", and it died of {facts.signal}" if facts.signal else ""
    return f"{text}{end}: if it failed for that, find a way that needs no privilege"


def _wall(facts: StepFacts) -> str:
    return (
        f"time limit of {facts.limits.wall_s:g} s reached; ask for more with options.timeout, "
        "or look for a loop or a wait that never ends"
    )


def _cpu(facts: StepFacts) -> str:
    return (
        f"CPU limit of {facts.limits.cpu_s:g} CPU seconds reached; "
        "ask for more with limits.cpu_s, or look for a loop that never ends"
    )


def _memory(facts: StepFacts) -> str:
    count = facts.usage.pids_peak
    by = "" if count < 1 else " by 1 process" if count == 1 else f" by up to {count} processes"
    return (
        f"memory limit of {size(facts.limits.memory)} reached{by}; ask for more with "
        f"resources.mem{', or run fewer at once (make -j1)' if count > 1 else ''}"
    )


def _pids(facts: StepFacts) -> str:
    return (
        f"limit of {facts.limits.pids} processes and threads reached; ask for more with "
        "limits.pids, or start fewer at once"
    )


def _disk(facts: StepFacts) -> str:
    grown = max(0, facts.stored.bytes - facts.stored_before.bytes)
    if facts.full and facts.full.startswith("folder "):
        return f"the virtual {facts.full} is full; remove files from it, or ask for a larger quota"
    if facts.ended_by == "disk":
        return (
            f"disk limit of {size(facts.limits.disk)} for this step reached; "
            "ask for more with limits.disk, or write less"
        )
    if facts.full:
        return (
            f"the session's disk is full ({size(facts.stored.bytes)} used, {size(grown)} of it "
            "by this step); remove files, or ask for more with resource_opts.disk"
        )
    return 'it says "No space left on device": remove files, or ask for more disk or shmem'


def _inodes(facts: StepFacts) -> str:
    if facts.ended_by == "inodes":
        return (
            f"limit of {facts.limits.inodes} new files for this step reached; ask for more with "
            "limits.inodes, or make fewer"
        )
    return (
        f"the session's disk can hold no more files ({facts.stored.inodes} are there); remove "
        "some, or pack them into archives"
    )


def _shm(facts: StepFacts) -> str:
    return (
        f"/dev/shm is full ({size(facts.limits.shm)}); ask for more with resource_opts.shmem, "
        "or keep files in /tmp"
    )


def _fsize(facts: StepFacts) -> str:
    return (
        f"a file reached the limit of {size(facts.limits.fsize)} for one file; ask for more with "
        "limits.fsize, or write several"
    )


def _nofile(facts: StepFacts) -> str:
    return (
        f'it says "Too many open files": a process may have {facts.limits.nofile}; close what is '
        "done with, or ask for more with limits.nofile"
    )


def _output(facts: StepFacts) -> str:
    return (
        f"output limit of {size(facts.limits.output)} reached: {facts.over} bytes were cut; ask "
        "for more with limits.output, or write to a file"
    )


_LIMITS: dict[str, Callable[[StepFacts], str]] = {
    "wall_s": _wall, "cpu_s": _cpu, "memory": _memory, "pids": _pids, "disk": _disk,
    "inodes": _inodes, "shm": _shm, "fsize": _fsize, "nofile": _nofile, "output": _output,
}  # fmt: skip


def size(count: int) -> str:
    """Bytes for people: whole MiB or GiB where that is exact, else rounded to a tenth."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{count} bytes"
