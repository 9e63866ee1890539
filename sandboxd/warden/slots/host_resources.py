"""The resources of the host that a slot can have: processes, loop devices and System V objects.

The check for leaks surveys them (warden/leaks), and the proof that a slot is empty needs them
(reclaim.py).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ...host import cgroup_places, procfs
from ...host.uptime import uptime
from ...jail.cgroup import RUN_GROUP
from . import images

ObjectKind = Literal["shm", "sem", "msg"]

TITLE_MAX = 80
"""Bytes of a process's arguments that are read. Arguments can be megabytes, and a program shares
those in memory with its thousand children."""

_TICKS = os.sysconf("SC_CLK_TCK")
_RUN_FILE = re.compile(r"(.*)/slots/\d+/(?:runs/\d+/.*|image)")
_OBJECTS: tuple[tuple[ObjectKind, int], ...] = (("shm", 7), ("sem", 4), ("msg", 7))
"""/proc/sysvipc/KIND (proc(5)) and its column uid; two behind it is that of the creator."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process with a slot's uid.

    start    its start time in clock ticks, which tells it from a later one with its pid
    group    the name of the run's group of this daemon that it is in
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
class Loop:
    """A loop device on an image below the state directory; `image` is its path there."""

    device: str
    image: str


@dataclass(frozen=True, slots=True)
class Object:
    """A System V object (`kind` shm, sem or msg) of a slot's uid."""

    kind: ObjectKind
    id: int
    uid: int
    age_s: float


def processes(state: str, uids: Container[int], members: Mapping[int, str]) -> Iterator[Process]:
    """The processes with one of these uids; `members` maps pids to the groups that they are in."""
    for pid, uid, _ in procfs.with_uid(uids):
        if process := _process(pid, uid, state, members):
            yield process


def _process(pid: int, uid: int, state: str, members: Mapping[int, str]) -> Process | None:
    status = status_of(pid)
    if status is None:
        return None
    start, zombie = status
    age_s = max(0.0, uptime() - start / _TICKS)
    title = procfs.text(f"/proc/{pid}/cmdline", TITLE_MAX).replace("\0", " ").strip()
    group = members.get(pid)
    foreign = group is None and not zombie and _is_foreign(pid, state)
    return Process(pid, start, uid, age_s, title, zombie, group, foreign)


def status_of(pid: int) -> tuple[int, bool] | None:
    """Start time in ticks, and whether the process is dead and waits for its parent; None: it is
    gone."""
    status = procfs.start_and_state(pid)
    return (status[0], status[1] in "ZX") if status else None


def _is_foreign(pid: int, state: str) -> bool:
    """The process is another daemon's: it is in a run's group that is not of this daemon, or it has
    files of a run, or of a scratch, open that are not below our state directory."""
    try:
        paths = cgroup_places.paths_of(pid).values()
    except OSError:
        return False
    if any(RUN_GROUP.fullmatch(path.rpartition("/")[2]) for path in paths):
        return True
    for path in _files(pid):
        match = _RUN_FILE.match(path)
        if match and match[1] != state and not images.is_cut(match[1], state):
            return True
    return False


def _files(pid: int) -> Iterator[str]:
    """The paths of the files that the process has open, and of the image that its root is in."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        names = []
    for name in names:
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
    try:
        device = os.stat(f"/proc/{pid}/root").st_dev
    except OSError:
        return
    numbers = f"{os.major(device)}:{os.minor(device)}"
    yield procfs.text(f"/sys/dev/block/{numbers}/loop/backing_file").strip()


def loops(state: str) -> Iterator[Loop]:
    """The loop devices on images below `state`."""
    for device, name in images.devices():
        if image := images.below(state, device, name):
            yield Loop(device, image)


def objects(uids: Container[int]) -> Iterator[Object]:
    """The System V objects that one of these uids owns or has created."""
    now = time.time()
    for kind, column in _OBJECTS:
        for line in procfs.lines(f"/proc/sysvipc/{kind}")[1:]:
            fields = line.split()
            owners = (int(fields[column]), int(fields[column + 2]))
            uid = next((uid for uid in owners if uid in uids), None)
            if uid is not None:
                changed = int(fields[13 if kind == "shm" else -1])
                yield Object(kind, int(fields[1]), uid, max(0.0, now - changed))
