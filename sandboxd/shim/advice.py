"""The advice of a verdict: one line on which a user can act, or "". No I/O."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ..model import GIB, MIB, Outcome, Sender
from .facts import StepFacts, signal_name

INIT_LOST = "the run's init ended unexpectedly"
KILLED_BY_CLIENT = "the run was ended on request"
DRAINED = (
    "the server was being drained, and the run had not ended by its deadline; run it again later"
)
NO_MEMORY_LEFT = (
    "files in memory from an earlier step take more than the memory limit of {}; remove them in "
    "that step, or ask for more with resources.mem"
)
OOM_SURVIVED = (
    "processes of the step were killed for want of memory, and its exit status does not show it"
)

_MEANINGS = {
    "SIGSEGV": "the program used memory that it does not have; look for a bad pointer or index, "
    "or endless recursion",
    "SIGBUS": "the program used a part of a mapped file beyond the end of that file",
    "SIGILL": "the program ran an instruction that this CPU does not have, or a trap of its "
    "compiler",
    "SIGFPE": "the program divided an integer by zero, or the result did not fit its type",
    "SIGABRT": "the program called abort(); its last output says why",
    "SIGTRAP": "the program reached a breakpoint or a check of its compiler",
    "SIGPIPE": "the program wrote to a pipe or socket without a reader",
    "SIGALRM": "a timer of the program ran out, and the program does not handle the signal",
    "SIGSYS": "the program made a system call of another architecture, as 32-bit programs do, or "
    "one that its own filter forbids; build it for 64 bits",
}
"""The usual cause of each signal."""


def of(outcome: Outcome, limit: str | None, sender: Sender | None, facts: StepFacts) -> str:
    """The advice of a verdict."""
    parts = [_cause(outcome, limit, sender, facts), _host_full(facts)]
    return "; ".join(part for part in parts if part)


def _host_full(facts: StepFacts) -> str:
    if facts.unwritten:
        return (
            f"the server's disk was full: {facts.unwritten} bytes of output are lost, and files "
            "that the step wrote may be lost"
        )
    if facts.host_full:
        return "the server's disk was full: files that the step wrote may be lost"
    return ""


def _cause(outcome: Outcome, limit: str | None, sender: Sender | None, facts: StepFacts) -> str:
    """The advice about the outcome and the limit."""
    if facts.killed_by:
        return DRAINED if facts.killed_by == "sandboxd" else KILLED_BY_CLIENT
    if outcome == "fault":
        return INIT_LOST
    if outcome == "limit" or limit not in (None, "output"):
        return _LIMITS[limit or ""](facts)
    parts = [_exit(sender, facts)]
    if limit == "output":
        parts.append(_output(facts))
    return "; ".join(part for part in parts if part)


def _exit(sender: Sender | None, facts: StepFacts) -> str:
    """The advice about an exit status that no limit explains."""
    if facts.exit == 0:
        return OOM_SURVIVED if facts.oom else ""
    if facts.exit == 126:
        return (
            "exit status 126: the shell found a file that it cannot execute; make the file "
            "executable (chmod +x, in the build step) or name its interpreter"
        )
    if facts.exit == 127:
        return (
            "exit status 127: a command was not found; its name is in the output. Check that the "
            "runtime has the command, or that the build makes it (./NAME)"
        )
    if facts.last_denied:
        return _denied(facts)
    if facts.signal:
        return DRAINED if sender == "sandboxd" else _died(facts.signal, sender)
    if facts.exit and 128 < facts.exit <= 128 + signal.SIGRTMAX:
        name = signal_name(facts.exit - 128)
        meaning = _MEANINGS.get(name, "")
        text = f"exit status {facts.exit}: in a shell this means that a program died of {name}"
        return f"{text}: {meaning}" if meaning else text
    return ""


def _died(name: str, sender: Sender | None) -> str:
    by = {"kernel": "the kernel", "client": "a client"}.get(
        sender or "", "a process of the run itself"
    )
    text = f"the program was ended by {name}, sent by {by}"
    return f"{text}: {_MEANINGS[name]}" if name in _MEANINGS else text


def _denied(facts: StepFacts) -> str:
    calls = sum(facts.denied.values())
    often = "once" if calls == 1 else f"{calls} times"
    others = [name for name in facts.denied if name != facts.last_denied]
    among = f" (and {', '.join(sorted(others)[:5])})" if others else ""
    text = f"the sandbox refused the system call {facts.last_denied}{among} {often}"
    end = f", and the program died of {facts.signal}" if facts.signal else ""
    return f"{text}{end}: if the program failed for that, find a way that needs no privilege"


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
    return 'the output says "No space left on device": remove files, or ask for more disk or shmem'


def _inodes(facts: StepFacts) -> str:
    if facts.ended_by == "inodes":
        return (
            f"limit of {facts.limits.inodes} new files for this step reached; ask for more with "
            "limits.inodes, or make fewer"
        )
    return (
        f"the session's disk can hold no more files than its {facts.stored.inodes}; remove some, "
        "or pack them into archives"
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
        f'the output says "Too many open files": a process may have {facts.limits.nofile}; '
        "close files after use, or ask for more with limits.nofile"
    )


def _output(facts: StepFacts) -> str:
    return (
        f"output limit of {size(facts.limits.output)} reached: {facts.excess} bytes were cut; ask "
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
