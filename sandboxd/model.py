"""The values that all processes of sandboxd share. No I/O, nothing here can fail slowly."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

MIB = 1 << 20
GIB = 1 << 30

HOME = "/home/work"
"""The session's work directory as programs and clients see it."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs in a jail are looked for, behind the session's own ~/.local/bin."""

ALIASES = "/aliases"
"""Where they are looked for last: other names for programs of PATH (jail/rootfs.py)."""

StepName = Literal["clean", "build", "exec"]
STEPS: tuple[StepName, ...] = ("clean", "build", "exec")

BUILD_FAILED = 127
"""exitCode of a run whose build failed, so that exec never started (the seed's rule)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step may use. Asked for by clients, clamped to the ceilings of the configuration.

    wall_s   seconds by the clock, not counting the time a client takes to answer waiting-input
    cpu_s    CPU seconds of all processes of the step together
    memory   bytes of the whole process tree, page tables and tmpfs included, without swap
    pids     processes and threads at once
    cpus     share of CPUs; 1.5 is one and a half
    nofile   open descriptors of one process
    fsize    bytes of one file
    shm      bytes of /dev/shm, which count as memory too
    disk     bytes by which the session's files may grow
    inodes   files and directories by which they may grow
    output   bytes of console; what is over is dropped, and counted
    """

    wall_s: float
    cpu_s: float
    memory: int
    pids: int
    cpus: float
    nofile: int
    fsize: int
    shm: int
    disk: int
    inodes: int
    output: int

    def clamped(self, ceiling: Limits) -> tuple[Limits, list[str]]:
        """These limits, none above `ceiling`, and the names of those that had to be lowered."""
        low: dict[str, Any] = {}
        for name, most in asdict(ceiling).items():
            if getattr(self, name) > most:
                low[name] = most
        return replace(self, **low), sorted(low)


def most(limits: Iterable[Limits]) -> Limits:
    """Of each limit the largest value that any of `limits` has."""
    fields = [asdict(each) for each in limits]
    return Limits(**{name: max(values[name] for values in fields) for name in fields[0]})


FOLDER_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""A virtual folder's name, and that of its place in /home/work: one harmless path component."""

ATTACHMENTS_MAX = 5
"""Virtual folders of one session."""


TERMINALS_MAX = 4
"""Terminals of one session at a time: runs beside the one that its line carries out."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """The virtual folder with the UUID `folder`, as a session sees it: /home/work/`name`."""

    folder: str
    name: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One of clean, build, exec. `command` is text for the shell; None: skipped, counts as done."""

    name: StepName
    command: str | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class Usage:
    """What a step used. Milliseconds and bytes, from kernel counters."""

    wall_ms: int = 0
    cpu_ms: int = 0
    mem_peak: int = 0
    pids_peak: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    cut_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What was found out about one thing that a host can guarantee (warden/doctor/guarantees.py).

    detail  how the host does it, or why it does not
    remedy  what to do about it; "" when it holds
    """

    group: str
    name: str
    meaning: str
    held: bool
    required: bool
    detail: str = ""
    remedy: str = ""


Outcome = Literal["success", "failure", "signal", "limit", "skipped", "fault"]
Sender = Literal["sandboxd", "client", "kernel", "program"]


@dataclass(frozen=True, slots=True)
class Change:
    """A counter at the beginning and at the end of a step."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a step.

    outcome  success (exit 0), failure (exit not 0), signal (killed by one), limit (ended by
             sandboxd for a limit, or failed at one, as the kernel shows), skipped, fault
             (sandboxd's own)
    limit    which one, a field of Limits; None when none was reached. With another outcome it
             did not end the step: output was cut, or the program says that it met the limit
    signal   name of the signal that killed the step's first process, None when none did
    sent_by  who sent it: sandboxd for a limit or when it is drained, a client, the kernel for a
             fault or for want of memory, or the program, that is, any process of the run
    oom      the kernel's out-of-memory killer took a process of this step
    denied   refused system calls, name -> how often; denied_syscall is the last of them
    counters what the kernel counted, by name
    advice   one line that a user can act on, or ""
    """

    outcome: Outcome
    limit: str | None = None
    signal: str | None = None
    sent_by: Sender | None = None
    oom: bool = False
    denied_syscall: str | None = None
    denied: dict[str, int] = field(default_factory=dict)
    counters: dict[str, Change] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    advice: str = ""
