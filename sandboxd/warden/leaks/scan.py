"""The scan: a survey of the kernel and the state directory for resources that may belong to slots.

Walking /proc takes long on a full host, so the scan runs in a forked child (background.py). A
resource of the survey may be gone when the survey is read: repair.py looks at it again.
"""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Container, Iterable, Iterator, Mapping

from ... import cgroupfs, procfs
from ..doctor import trial_directory
from ..slots import images
from .rule import GROUP, Kind, Loop, Object, Process, SlotDirectory, Survey, Temporary

AGAIN_S = 0.3
"""A loop device counts if it is still there after this long: the kernel releases it late."""

TITLE_MAX = 80
"""Bytes of a process's arguments that are read. Arguments can be megabytes, and a program shares
those in memory with its thousand children."""

_TICKS = os.sysconf("SC_CLK_TCK")
_RUN_FILE = re.compile(r"(.*)/slots/\d+/(?:runs/\d+/.*|image)")
_OBJECTS: tuple[tuple[Kind, int], ...] = (("shm", 7), ("sem", 4), ("msg", 7))
"""/proc/sysvipc/KIND (proc(5)) and its column uid; two behind it is that of the creator."""


def survey(state_dir: str, uids: range, groups: Mapping[str, Iterable[str]]) -> Survey:
    """The resources of this host that may belong to slots. `groups` maps the names of run groups
    to their directories."""
    state = os.path.realpath(state_dir)
    before = set(loops(state))
    resources = Survey(
        processes=list(processes(state, uids, _members(groups))),
        directories=list(_directories(state)),
        groups={name: _age(min(dirs)) for name, dirs in groups.items()},
        objects=list(objects(uids)),
        temporaries=list(_temporaries(state)),
        folders=_names(f"{state}/folders"),
        bytes=_bytes(state),
    )
    if before:
        time.sleep(AGAIN_S)
        resources.loops.extend(sorted(before & set(loops(state)), key=lambda loop: loop.device))
    return resources


def _members(groups: Mapping[str, Iterable[str]]) -> dict[int, str]:
    """Pid -> the name of the run's group of this daemon that it is in."""
    return {
        pid: name
        for name, directories in groups.items()
        for directory in directories
        for pid in cgroupfs.members(directory)
    }


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
    age_s = max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - start / _TICKS)
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
        paths = cgroupfs.paths_of(pid).values()
    except OSError:
        return False
    if any(GROUP.fullmatch(path.rpartition("/")[2]) for path in paths):
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


def _directories(state: str) -> Iterator[SlotDirectory]:
    for name in _names(f"{state}/slots"):
        if name.isdigit():
            path = f"{state}/slots/{name}"
            yield SlotDirectory(int(name), procfs.text(f"{path}/session").strip(), _age(path))


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


def _temporaries(state: str) -> Iterator[Temporary]:
    for pattern in ("blank/*.new", "folders/*/image.*.new", f"{trial_directory.PREFIX}*"):
        for path in glob.glob(f"{glob.escape(state)}/{pattern}"):
            yield Temporary(path[len(state) :], _age(path))


def _bytes(state: str) -> dict[int, int]:
    """Slot -> the bytes on disk of its image."""
    sizes = {}
    for name in _names(f"{state}/slots"):
        try:
            sizes[int(name)] = os.stat(f"{state}/slots/{name}/image").st_blocks * 512
        except (OSError, ValueError):
            continue
    return sizes


def _age(path: str) -> float:
    try:
        return max(0.0, time.time() - os.stat(path).st_mtime)
    except OSError:
        return 0.0


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
