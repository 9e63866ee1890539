"""The advice of a verdict: one line on which a user can act, or "". No I/O.

A higher limit is advised by the phrase "ask for more with limits.NAME", or resource_opts.NAME for a
limit of the whole session, and a command by "options.STEP". The api turns these names into what the
reader of the advice can type (api/options/wording.py).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

from ..jail.profile import SET_ID
from ..jail.uncounted_memory import CONNECTIONS_MAX, LOCKS_MAX
from ..model import Outcome, Sender, size
from .facts import WORKSPACE, StepFacts, signal_name

INIT_LOST = "the run's init ended unexpectedly"
KILLED_BY_CLIENT = "the run was ended on request"
DRAINED = (
    "the server was being drained, and the run had not ended by its deadline; run it again later"
)
NO_MEMORY_LEFT = (
    "files in memory from an earlier step take more than the memory limit of {}; remove them in "
    "that step, or ask for more with limits.mem"
)
OOM_SURVIVED = (
    "processes of the step were killed for want of memory, and its exit status does not show it; "
    "ask for more with limits.mem"
)

SESSION_MEMORY = (
    "the runs of this session together, terminals too, reached the memory limit, and the largest "
    "process was ended; end what is not needed, or ask for more with limits.mem"
)

NO_NETWORK = "this sandbox has no network: upload what the program wants to fetch"

PROXY_ONLY = (
    "this sandbox reaches the hosts of its network profile through a proxy alone: have the program "
    "use the one in the variables http_proxy and https_proxy"
)

SET_ID_BITS = (
    "in a session with a workspace no call may set the set-user-ID or set-group-ID bit, or keep it "
    "on a directory; chmod g-s DIRECTORY takes it away"
)
_TAKE_MODES = frozenset(condition.call for condition in SET_ID)

_UNRESOLVED = re.compile(
    r"temporary failure in name resolution|temporary failure resolving|name or service not known"
    r"|name does not resolve|no address associated with hostname|nodename nor servname"
    r"|could not resolve host|couldn't resolve host|unable to resolve host|no such host"
    r"|UnknownHostException|unknown host\b(?! key)|bad hostname|lookup \S+ on \S+:"
    r"|failed to lookup address|gaierror|getaddrinfo (?:failed|EAI_|ENOTFOUND)"
    r"|code EAI_AGAIN|code ENOTFOUND|no servers could be reached"
    r"|network is unreachable|ENETUNREACH",
    re.IGNORECASE,
)
"""The words of programs and libraries for a name that does not resolve, or no route."""

_LAST_LINES = 8
"""Lines at the end of the output that count as the program's last words. Lines that belong to one
before them, as those of a stack trace do, do not count."""

_NOTHING_FOUND = re.compile(
    r'sandboxd: (build|exec) "\*" looked for ([^\n]{1,120}) in /home/work and found none'
)
"""The last line of a default command (runtimes/commands.py)."""

_MEANINGS = {
    "SIGSEGV": "the program used memory that it does not have; look for a bad pointer or index, "
    "or endless recursion; for deep recursion ask for more with limits.stack",
    "SIGBUS": "the program used a part of a mapped file beyond the end of that file",
    "SIGILL": "the program ran an instruction that this CPU does not have, or a trap of its "
    "compiler",
    "SIGFPE": "the program divided an integer by zero, or the result did not fit its type",
    "SIGABRT": "the program called abort(); its last output says why",
    "SIGTRAP": "the program reached a breakpoint or a check of its compiler",
    "SIGPIPE": "the program wrote to a pipe or socket without a reader",
    "SIGXFSZ": "a file reached the limit for one file; ask for more with limits.fsize",
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
        text = _LIMITS[limit or ""](facts)
        is_waiting = limit == "wall_s" and _wants_network(facts.last_output)
        reason = PROXY_ONLY if facts.network else NO_NETWORK
        return f"{text}; {reason}" if is_waiting else text
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
    if facts.exit == 127 and (match := _NOTHING_FOUND.search(facts.last_output)):
        return (
            f'exit status 127: {match[1]} "*" looked for {match[2]} in /home/work and found none; '
            f"upload one, or name a command with options.{match[1]}"
        )
    if facts.exit == 127:
        return (
            "exit status 127: a command was not found; its name is in the output. Check that the "
            "runtime has the command, or that the build makes it (./NAME)"
        )
    if facts.exit and (reason := _unreached(facts)):
        return reason
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


def _unreached(facts: StepFacts) -> str:
    """The advice for a program that has failed for want of a host; "" for any other."""
    if not facts.refused:
        missing = _wants_network(facts.last_output)
        return "" if not missing else PROXY_ONLY if facts.network else NO_NETWORK
    first, more = facts.refused[0], len(facts.refused) - 1
    others = f" (and {more} more in the log)" if more else ""
    remedy = "; name a host of the profile" if "is not in profile" in first else ""
    return f"the network refused a connection: {first}{others}{remedy}"


def _wants_network(output: str) -> bool:
    """The last words of `output` are about a name that does not resolve."""
    lines = output.splitlines()
    begins = [number for number, line in enumerate(lines) if line[:1].isalnum() or line[:1] == "["]
    first = begins[-_LAST_LINES] if len(begins) >= _LAST_LINES else 0
    return _UNRESOLVED.search("\n".join(lines[first:])) is not None


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
    if facts.last_denied in _TAKE_MODES:
        return f"{text}: {SET_ID_BITS}"
    end = f", and the program died of {facts.signal}" if facts.signal else ""
    return f"{text}{end}: if the program failed for that, find a way that needs no privilege"


def _wall(facts: StepFacts) -> str:
    return (
        f"time limit of {facts.limits.wall_s:g} s reached; ask for more with limits.wall_s, "
        "or look for a loop or a wait that never ends"
    )


def _cpu(facts: StepFacts) -> str:
    return (
        f"CPU limit of {facts.limits.cpu_s:g} CPU seconds reached; "
        "ask for more with limits.cpu_s, or look for a loop that never ends"
    )


def _memory(facts: StepFacts) -> str:
    if facts.oom_of_session:
        return SESSION_MEMORY
    count = facts.usage.pids_peak
    by = "" if count < 1 else " by 1 process" if count == 1 else f" by up to {count} processes"
    return (
        f"memory limit of {size(facts.limits.memory)} reached{by}; ask for more with "
        f"limits.mem{', or run fewer at once (make -j1)' if count > 1 else ''}"
    )


def _pids(facts: StepFacts) -> str:
    return (
        f"limit of {facts.limits.pids} processes and threads reached; ask for more with "
        "limits.pids, or start fewer at once"
    )


def _disk(facts: StepFacts) -> str:
    grown = max(0, facts.stored.bytes - facts.stored_before.bytes)
    if facts.full and facts.full.startswith("folder "):
        return f"the virtual {facts.full} is full; remove files from it, or use a larger folder"
    if facts.full == WORKSPACE:
        return "the disk of the host that the workspace is on is full; remove files from it"
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
    return (
        'the output says "No space left on device": remove files, keep less in /dev/shm, or '
        "ask for more with resource_opts.disk"
    )


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


def _locks(_: StepFacts) -> str:
    return (
        f"more than {LOCKS_MAX} locks on files at one time, or too many descriptors to count them: "
        "release locks that are not needed, or lock larger ranges, and close descriptors"
    )


def _connections(_: StepFacts) -> str:
    return (
        f"TCP connections that no process holds: {size(CONNECTIONS_MAX)} of them waited to be "
        "accepted, or very many were closed before the other end was; accept connections, and "
        "read them to their end"
    )


def _nofile(facts: StepFacts) -> str:
    return (
        f'the output says "Too many open files": a process may have {facts.limits.nofile}; '
        "close files after use, or ask for more with limits.nofile"
    )


def _output(facts: StepFacts) -> str:
    if facts.ended_by == "output":
        return (
            f"output limit of {size(facts.limits.output_end)} reached, which ends the step; "
            "ask for more with limits.output_end, or print less"
        )
    return (
        f"output limit of {size(facts.limits.output)} reached: {facts.excess} bytes were cut; ask "
        "for more with limits.output, or write to a file"
    )


_LIMITS: dict[str, Callable[[StepFacts], str]] = {
    "wall_s": _wall, "cpu_s": _cpu, "memory": _memory, "pids": _pids, "disk": _disk,
    "inodes": _inodes, "shm": _shm, "fsize": _fsize, "nofile": _nofile, "output": _output,
    "locks": _locks, "connections": _connections,
}  # fmt: skip
