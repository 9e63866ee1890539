"""The rule that finds leaks: resources of the host that belong to no session. No I/O.

Everything about a session follows from its slot: the uid, the directory with the image and the
runs, the names of its cgroups, the loop device that has the image. So the lease table of the
warden (`Expected`) can be compared with the resources that exist (`Survey`). scan.py makes the
survey, this module judges, repair.py removes.

    process      Its uid is a slot's. Either it is in a run's group of this daemon that the warden
                 does not know any more, or it is in no run's group. A process in another daemon's
                 group, or with another daemon's files open, is that daemon's, with any uid.
    directory    A slot's directory that is not leased and names no session: its creation or its
                 removal was broken off.
    cgroup       A run's group below the daemon's own group, of a run that the warden does not know,
                 or the group of a slot that is not leased.
    loop         A loop device on an image of a slot or folder that is mounted for no session.
    shm sem msg  A System V object of a slot's uid outside of any run: each run has an IPC
                 namespace of its own.
    temporary    A half-made image, or the trial directory of a daemon that was killed.

A resource that may belong to somebody is no leak:

    - A slot that has a session's name and is not leased may be adopted by a later daemon. The
      check for leaks touches nothing of such a slot.
    - A uid that is not leased here may be leased by another daemon. The sweep holds the lease of
      the uid (Leak.slot) while a leak is removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any, Literal

from ...jail.cgroup import RUN_GROUP, SLOT_GROUP
from ..slots.host_resources import Loop, Object, Process

STALE_S = 60.0
"""Age of a temporary file that no daemon works on any more: making one takes a second."""

Kind = Literal["process", "directory", "cgroup", "loop", "shm", "sem", "msg", "temporary"]

_SLOT_IMAGE = re.compile(r"/slots/(\d+)/image", re.ASCII)


@dataclass(frozen=True, slots=True)
class SlotDirectory:
    """STATE/slots/`number`; `session` is the name in it, "" when there is none."""

    number: int
    session: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Temporary:
    """A half-made image or a trial directory; `path` is below the state directory."""

    path: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Survey:
    """The resources of this host that may belong to slots.

    groups   names of run groups -> their ages
    folders  the UUIDs of the virtual folders that have a directory
    bytes    slot -> the bytes of disk that its image takes
    """

    processes: list[Process] = field(default_factory=list)
    directories: list[SlotDirectory] = field(default_factory=list)
    groups: dict[str, float] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    temporaries: list[Temporary] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    bytes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A leased slot: its session, its workers (pids) and the names of its runs' groups. A spare has
    its resources too, and no session."""

    number: int
    session: str
    pids: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Expected:
    """The lease table: the resources that have an owner at this moment.

    leases    by slot
    emptying  slots under teardown: none of their resources is a leak yet
    groups    groups of runs that are over, whose removal is under way
    folders   virtual folders that are mounted for a session. None: every folder may be mounted,
              since a file helper without a slot works
    """

    first_uid: int
    count: int
    leases: dict[int, LeaseRow] = field(default_factory=dict)
    emptying: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()
    folders: frozenset[str] | None = frozenset()

    def slot_of(self, uid: int) -> int | None:
        """The slot that has this uid."""
        number = uid - self.first_uid
        return number if 0 <= number < self.count else None


@dataclass(frozen=True, slots=True)
class Leak:
    """A resource that belongs to no session.

    identity  which one, in words for people
    slot      the slot whose lease the sweep must hold to remove it; None: it has no uid
    target    the arguments of repair.py
    done      the outcome of the repair
    """

    kind: Kind
    identity: str
    age_s: float | None = None
    slot: int | None = None
    target: tuple[Any, ...] = ()
    done: str = ""


def slot_of_group(name: str) -> int | None:
    """The slot of a run's or a slot's group; None: the group is neither."""
    match = RUN_GROUP.fullmatch(name) or SLOT_GROUP.fullmatch(name)
    return int(match[1]) if match else None


def leaks(expected: Expected, survey: Survey) -> Iterator[Leak]:
    """The resources of `survey` that belong to no session."""
    untouched = expected.emptying | {one.number for one in survey.directories if one.session}
    untouched -= expected.leases.keys()
    yield from _processes(expected, untouched, survey.processes)
    yield from _directories(expected, untouched, survey.directories)
    for name, age_s in survey.groups.items():
        if not _has_group(expected, untouched, name):
            yield Leak("cgroup", name, age_s, None, (name,))
    for loop in survey.loops:
        if not _has_image(expected, untouched, loop.image):
            identity = f"{loop.device} {loop.image}"
            yield Leak("loop", identity, None, None, (loop.device, loop.image))
    yield from _objects(expected, untouched, survey.objects)
    for temporary in survey.temporaries:
        if temporary.age_s >= STALE_S:
            yield Leak("temporary", temporary.path, temporary.age_s, None, (temporary.path,))


def _processes(
    expected: Expected, untouched: Set[int], processes: Iterable[Process]
) -> Iterator[Leak]:
    for process in processes:
        number = expected.slot_of(process.uid)
        if number is not None and not _has_process(expected, untouched, number, process):
            identity = f"pid {process.pid} uid {process.uid} {process.title}".rstrip()
            target = (process.pid, process.start, process.zombie)
            yield Leak("process", identity, process.age_s, number, target)


def _directories(
    expected: Expected, untouched: Set[int], directories: Iterable[SlotDirectory]
) -> Iterator[Leak]:
    for directory in directories:
        is_free = directory.number not in untouched and directory.number not in expected.leases
        if is_free and directory.number < expected.count:
            identity = f"slots/{directory.number}"
            target = (directory.number, expected.first_uid + directory.number)
            yield Leak("directory", identity, directory.age_s, directory.number, target)


def _objects(expected: Expected, untouched: Set[int], objects: Iterable[Object]) -> Iterator[Leak]:
    for item in objects:
        number = expected.slot_of(item.uid)
        if number is not None and number not in untouched:
            yield Leak(item.kind, f"{item.id} uid {item.uid}", item.age_s, number, (item.id,))


def _has_process(expected: Expected, untouched: Set[int], number: int, process: Process) -> bool:
    """The process belongs to a session or to another daemon, or may do so."""
    if process.foreign or number in untouched:
        return True
    if process.group is not None and _has_group(expected, untouched, process.group):
        return True
    lease = expected.leases.get(number)
    if lease is None:
        return False
    # A dead process of a run waits for its parent inside; the end of the run takes both.
    return process.pid in lease.pids or process.zombie


def _has_group(expected: Expected, untouched: Set[int], name: str) -> bool:
    number = slot_of_group(name)
    if number is None or name in expected.groups:
        return True  # not a run's, or its removal is under way
    lease = expected.leases.get(number)
    if number in untouched or lease is None:
        return number in untouched
    return name in lease.groups or SLOT_GROUP.fullmatch(name) is not None


def _has_image(expected: Expected, untouched: Set[int], image: str) -> bool:
    if match := _SLOT_IMAGE.fullmatch(image):
        return int(match[1]) in expected.leases or int(match[1]) in untouched
    if expected.folders is None:
        return True
    return any(image == f"/folders/{folder}/image" for folder in expected.folders)
