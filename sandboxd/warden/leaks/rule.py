"""What belongs to whom: the rule that finds strays. No I/O.

Everything about a session follows from its slot: the uid, the directory with the image and the
runs, the names of its cgroups, the loop device that has the image. So what is leased (`Known`)
and what is there (`Seen`) can be compared, and what is there for no reason is a stray. The
survey (scan.py) looks, this module judges, repair.py removes.

Nothing is a stray that may be somebody's:

    process      its uid is a slot's, and either it is in a run's group of this daemon that no
                 longer exists for the warden, or it is in nobody's. One in another daemon's group,
                 or with another daemon's files open, is that daemon's, whoever's its uid is
    directory    a slot's, not leased and without a session's name: never finished, or its removal
                 was
    cgroup       of a run that the warden does not know, below the daemon's own group
    loop         a device on an image of a slot or folder that nobody has mounted
    shm sem msg  a System V object of a slot's uid outside of any run: runs have their own
    keys         kernel keys of a slot's uid, which programs cannot make
    temporary    a half-made image, or what a daemon that was killed at its start had tried

A slot that has a session's name and is not leased may be taken up by a later daemon: nothing of
it is touched. And that a uid is not leased here is not enough to act upon it, since another daemon
may have it: who acts must hold its lease meanwhile (Stray.slot, sweep.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any, Literal

STALE_S = 60.0
"""Age of a temporary file that nobody works on any more: making one takes a second."""

Kind = Literal[
    "process", "directory", "cgroup", "loop", "shm", "sem", "msg", "keys", "temporary"
]  # fmt: skip

GROUP = re.compile(r"(\d+)\.\d+", re.ASCII)
"""The name of a run's group: slot and run."""

_SLOT_IMAGE = re.compile(r"/slots/(\d+)/image", re.ASCII)


@dataclass(frozen=True, slots=True)
class Process:
    """A process with a slot's uid.

    start    its start time in clock ticks, which tells it from a later one with its pid
    group    the run's group of this daemon that it is in
    foreign  it is in another daemon's group, or has its files open
    """

    pid: int
    start: int
    uid: int
    age_s: float
    title: str = ""
    zombie: bool = False
    group: str | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class SlotDirectory:
    """STATE/slots/`number`; `session` is the name in it, "" when there is none."""

    number: int
    session: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop device on an image of ours; `image` is its path below the state directory."""

    device: str
    image: str


@dataclass(frozen=True, slots=True)
class Object:
    """A System V object (`kind` shm, sem or msg), or keys, of a slot's uid."""

    kind: Kind
    id: int
    uid: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Temporary:
    """A half-made image or a probe's directory; `path` is below the state directory."""

    path: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Survey:
    """What the survey has found. `groups` maps names to ages, `bytes` slots to the disk that they
    take, `folders` are the UUIDs of those that have a directory."""

    processes: list[Process] = field(default_factory=list)
    directories: list[SlotDirectory] = field(default_factory=list)
    groups: dict[str, float] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    temporaries: list[Temporary] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    bytes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """A leased slot: its session, and what works for it: shims and helpers, groups of runs."""

    number: int
    session: str
    pids: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Expected:
    """What the warden knows to be right.

    leases    by slot
    emptying  slots that are being emptied: nothing of them is a stray yet
    groups    of runs that are over and being removed
    folders   that are mounted for a session; None: for all that is known any may be, since a
              helper is at work
    """

    first_uid: int
    count: int
    leases: dict[int, Lease] = field(default_factory=dict)
    emptying: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()
    folders: frozenset[str] | None = frozenset()

    def slot_of(self, uid: int) -> int | None:
        """The slot whose uid it is."""
        number = uid - self.first_uid
        return number if 0 <= number < self.count else None


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that nobody has.

    identity  which one, for people
    slot      whose uid must be held by who acts; None: it has no uid
    target    what repair.py needs besides
    done      what became of it
    """

    kind: Kind
    identity: str
    age_s: float | None = None
    slot: int | None = None
    target: tuple[Any, ...] = ()
    done: str = ""


def slot_of_group(name: str) -> int | None:
    """The slot of a run's group; None: it is none of a run's."""
    found = GROUP.fullmatch(name)
    return int(found[1]) if found else None


def leaks(known: Expected, seen: Survey) -> Iterator[Leak]:
    """Everything in `seen` that nobody has."""
    untouched = known.emptying | {one.number for one in seen.directories if one.session}
    untouched -= known.leases.keys()
    for process in seen.processes:
        number = known.slot_of(process.uid)
        if number is not None and not _has_process(known, untouched, number, process):
            what = f"pid {process.pid} uid {process.uid} {process.title}".rstrip()
            target = (process.pid, process.start, process.zombie)
            yield Leak("process", what, process.age_s, number, target)
    for directory in seen.directories:
        free = directory.number not in untouched and directory.number not in known.leases
        if free and directory.number < known.count:
            what = f"slots/{directory.number}"
            yield Leak("directory", what, directory.age_s, directory.number)
    for name, age_s in seen.groups.items():
        if not _has_group(known, untouched, name):
            yield Leak("cgroup", name, age_s, None, (name,))
    for loop in seen.loops:
        if not _has_image(known, untouched, loop.image):
            what = f"{loop.device} {loop.image}"
            yield Leak("loop", what, None, None, (loop.device, loop.image))
    for item in seen.objects:
        number = known.slot_of(item.uid)
        if number is not None and number not in untouched:
            yield Leak(item.kind, f"{item.id} uid {item.uid}", item.age_s, number, (item.id,))
    for temporary in seen.temporaries:
        if temporary.age_s >= STALE_S:
            yield Leak("temporary", temporary.path, temporary.age_s, None, (temporary.path,))


def _has_process(known: Expected, untouched: Set[int], number: int, process: Process) -> bool:
    """Somebody has the process, or may have it."""
    if process.foreign or number in untouched:
        return True
    if process.group is not None and _has_group(known, untouched, process.group):
        return True
    lease = known.leases.get(number)
    if lease is None:
        return False
    # What has died in a run awaits its parent there; the end of a run takes both.
    return process.pid in lease.pids or process.zombie


def _has_group(known: Expected, untouched: Set[int], name: str) -> bool:
    number = slot_of_group(name)
    if number is None or name in known.groups:
        return True  # none of a run's, or on its way
    lease = known.leases.get(number)
    return number in untouched or (lease is not None and name in lease.groups)


def _has_image(known: Expected, untouched: Set[int], image: str) -> bool:
    if found := _SLOT_IMAGE.fullmatch(image):
        return int(found[1]) in known.leases or int(found[1]) in untouched
    if known.folders is None:
        return True
    return any(image == f"/folders/{folder}/image" for folder in known.folders)
