"""The values that all processes of sandboxd share. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal

API_VERSION = "v7.20230615"
"""The newest version of Backend.AI's API that all its clients speak without a warning."""

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

SLOTS_MAX = 65536
"""Slots of a host."""

SCRATCH_MIN, SCRATCH_MAX = 16 * MIB, 1 * TIB
"""Bytes of a scratch, and of a virtual folder. In a smaller one the file system itself would take
most of them."""

INODES_MIN, INODES_MAX = 16, 1 << 31
"""Files and directories that a scratch or a virtual folder may have."""

UNLIMITED = 1 << 59
"""The value of a stack without a limit of its own; the limit of memory still holds. A number, so
that it compares with others, and exact in JSON, whose numbers may become floats."""


def size(count: int) -> str:
    """Bytes for people: whole MiB or GiB where that is exact, else rounded to a tenth."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{count} bytes"


OUTPUT = ".output"
"""The directory, below /home/work, whose new files a result lists."""

HOME = "/home/work"
"""The session's workdir as programs and clients see it."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The search path of a jail, after the session's own ~/.local/bin."""

ALIASES = "/aliases"
"""The last directory of the search path: other names for programs of PATH (jail/rootfs.py)."""

StepName = Literal["clean", "build", "exec"]
STEPS: tuple[StepName, ...] = ("clean", "build", "exec")

BUILD_FAILED = 127
"""exitCode of a run whose build failed, so that exec never started (as in Backend.AI)."""


MAY_BE_ZERO = frozenset({"grace_s"})
"""Fields of Limits for which 0 is a value."""


def record(value: Any) -> dict[str, Any]:
    """The fields of a dataclass with slots, by name. `dataclasses.asdict` copies each value: it
    made a third of all calls of a shim."""
    return {name: getattr(value, name) for name in value.__slots__}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one step. A client may request them; the ceilings of the configuration bound
    them.

    wall_s   seconds of wall clock, without the time for which a step waits for its client's input
    cpu_s    CPU seconds of all processes of the step together
    grace_s  seconds from SIGTERM, at the end of wall_s, to SIGKILL; 0: SIGKILL at once
    memory   bytes of the whole process tree, page tables and tmpfs included, without swap
    pids     processes and threads at once
    cpus     share of CPUs; 1.5 is one and a half
    nofile   open descriptors of one process
    fsize    bytes of one file
    shm      bytes of /dev/shm, which count as memory too
    disk     bytes by which the session's files may grow
    inodes   files and directories by which they may grow
    output   bytes of console; further bytes are dropped and counted
    output_end  bytes of console at which the step ends
    stack    bytes of the stack of a program's first thread; UNLIMITED: what memory allows
    """

    wall_s: float
    cpu_s: float
    grace_s: float
    memory: int
    pids: int
    cpus: float
    nofile: int
    fsize: int
    shm: int
    disk: int
    inodes: int
    output: int
    output_end: int
    stack: int

    def clamped(self, ceiling: Limits) -> tuple[Limits, list[str]]:
        """These limits, none above `ceiling`, and the names of the lowered ones."""
        own, highest = limit_values(self), limit_values(ceiling)
        low = {
            name: most
            for name, value, most in zip(self.__slots__, own, highest, strict=True)
            if value > most
        }
        return (replace(self, **low) if low else self), sorted(low)


limit_values: Callable[[Limits], tuple[Any, ...]] = attrgetter(*Limits.__slots__)
"""The values of limits, in the order of the fields."""

NOFILE_MIN = 16
"""Open files of a process with which a shell still works."""


def within_files(limits: Limits, run_files: int) -> Limits:
    """`limits` with a `nofile` by which all processes together open at most `run_files` files; 0:
    any number. A shell still works."""
    if not run_files or limits.nofile * limits.pids <= run_files:
        return limits
    return replace(limits, nofile=min(limits.nofile, max(NOFILE_MIN, run_files // limits.pids)))


def most(limits: Iterable[Limits]) -> Limits:
    """The largest value of each limit among `limits`."""
    first, *others = limits
    if all(other is first for other in others):  # as those of most runs
        return first
    limits = (first, *others)
    return Limits(*map(max, zip(*map(limit_values, limits), strict=True)))


FOLDER_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""A virtual folder's name, and that of its place in /home/work: one harmless path component."""

ATTACHMENTS_MAX = 5
"""Virtual folders of one session."""


TERMINALS_MAX = 4
"""Terminals of one session at one time. They are runs beside the run of its queue."""


@dataclass(frozen=True, slots=True)
class NetworkGrant:
    """The network that a session has: `hosts` of a profile; none: all of its hosts."""

    owner: str
    profile: str
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """The virtual folder with the UUID `folder`, as a session sees it: /home/work/`name`."""

    folder: str
    name: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Workspace:
    """A directory of the host that a session sees (warden/slots/workspaces.py).

    path   of the host
    place  its name in /home/work; "": it is /home/work itself
    uid, gid   the user whose directory it is
    seal   the proof of the warden that this user has made the session
    """

    path: str
    place: str
    uid: int
    gid: int
    seal: str

    @property
    def inside(self) -> str:
        """Its path for programs."""
        return f"{HOME}/{self.place}" if self.place else HOME


@dataclass(frozen=True, slots=True)
class Step:
    """One of clean, build, exec. `command` is a text for the shell; None: the step is skipped."""

    name: StepName
    command: str | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class ConsoleBounds:
    """The bytes of a run's output that are stored from its start and from its end, and the seconds
    until an unanswered waiting-input closes standard input."""

    head: int
    tail: int
    input_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that a step used: milliseconds and bytes, from kernel counters."""

    wall_ms: int = 0
    cpu_ms: int = 0
    mem_peak: int = 0
    pids_peak: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    cut_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The result of the probe of one guarantee (warden/doctor/guarantees.py).

    detail  the means of the host, or the reason why the guarantee does not hold
    remedy  a line for the operator; "" when the guarantee holds
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
    """The result of a step.

    outcome  success (exit code 0), failure (another exit code), signal (killed by a signal),
             limit (sandboxd ended the step for a limit, or the kernel's counters show that it
             failed at a limit), skipped, fault (an error of sandboxd itself)
    limit    the name of the limit: a field of Limits, "locks" or "connections"; None when no limit
             was reached. With another outcome the limit did not end the step: its output was cut,
             or the program's own words name the limit
    signal   name of the signal that killed the step's first process, or None
    sent_by  the sender of the signal: sandboxd for a limit or a drain, a client, the kernel for an
             act of the program or for lack of memory, or the program: any process of the run
    oom      the kernel's out-of-memory killer killed a process of this step
    denied   refused system calls, name -> count; denied_syscall is the last of them
    counters counters of the kernel, by name
    advice   one line on which a user can act, or ""
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

    def record(self) -> dict[str, Any]:
        """The verdict as it is in the journal."""
        counters = {name: record(change) for name, change in self.counters.items()}
        return record(self) | {"counters": counters, "usage": record(self.usage)}
