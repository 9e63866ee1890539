"""Looks at the kernel and the state directory for all that may belong to slots.

Walking /proc takes long on a full host, so this runs in a forked child (background.py), and what it
finds may be over when it is read: who acts upon it looks again.
"""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping

from ..doctor import trial_directory
from ..slots import images
from .rule import GROUP, Kind, Loop, Object, Process, SlotDirectory, Survey, Temporary

AGAIN_S = 0.3
"""A loop device counts if it is still there after this long: the kernel lets go of it late."""

TITLE_MAX = 80
"""Bytes of a process's arguments that are looked at. They can be megabytes, and those of a program
and its thousand children are in memory but once."""

_TICKS = os.sysconf("SC_CLK_TCK")
_RUN_FILE = re.compile(r"(.*)/slots/\d+/(?:runs/\d+/.*|image)")
_OBJECTS: tuple[tuple[Kind, int], ...] = (("shm", 7), ("sem", 4), ("msg", 7))
"""/proc/sysvipc/KIND (proc(5)) and its column uid; two behind it is that of the creator."""


def survey(state_dir: str, uids: range, groups: Mapping[str, Iterable[str]]) -> Survey:
    """All that is there. `groups` maps the names of run groups to their directories."""
    state = os.path.realpath(state_dir)
    before = set(loops(state))
    members = _members(groups)
    seen = Survey(
        processes=list(processes(state, uids, members)),
        directories=list(_directories(state)),
        groups={name: _age(min(dirs)) for name, dirs in groups.items()},
        objects=[*objects(uids), *keys(uids)],
        temporaries=list(_temporaries(state)),
        folders=_names(f"{state}/folders"),
        bytes=_bytes(state),
    )
    if before:
        time.sleep(AGAIN_S)
        seen.loops.extend(sorted(before & set(loops(state)), key=lambda loop: loop.device))
    return seen


def _members(groups: Mapping[str, Iterable[str]]) -> dict[int, str]:
    """Pid -> the run's group of ours that it is in."""
    found = {}
    for name, paths in groups.items():
        for path in paths:
            for pid in _text(f"{path}/cgroup.procs").split():
                found[int(pid)] = name
    return found


def processes(state: str, uids: range, members: Mapping[int, str]) -> Iterator[Process]:
    """The processes with one of these uids; `members` maps pids to the groups that they are in."""
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and (uid := _uid(entry.name, uids)) is not None:
                found = _process(int(entry.name), uid, state, members)
                if found:
                    yield found


def _uid(pid: str, uids: range) -> int | None:
    """A slot's uid that the process has, as any of its four (proc(5), Uid)."""
    line = _text(f"/proc/{pid}/status").partition("\nUid:")[2].partition("\n")[0]
    return next((uid for uid in map(int, line.split()) if uid in uids), None)


def _process(pid: int, uid: int, state: str, members: Mapping[int, str]) -> Process | None:
    stat = status_of(pid)
    if stat is None:
        return None
    start, zombie = stat
    age_s = max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - start / _TICKS)
    title = _text(f"/proc/{pid}/cmdline", TITLE_MAX).replace("\0", " ").strip()
    group = members.get(pid)
    foreign = group is None and not zombie and _is_foreign(pid, state)
    return Process(pid, start, uid, age_s, title, zombie, group, foreign)


def status_of(pid: int) -> tuple[int, bool] | None:
    """Start time in ticks, and whether it is dead and awaits its parent; None: it is gone."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[19]), fields[0] in "ZX") if len(fields) > 19 else None


def _is_foreign(pid: int, state: str) -> bool:
    """Another daemon has it: it is in a group of a run, and that is none of ours, or it has files
    of a run, or of a scratch, that is not in our state directory."""
    for line in _text(f"/proc/{pid}/cgroup").splitlines():
        if GROUP.fullmatch(line.rpartition("/")[2]):
            return True
    for path in _files(pid):
        found = _RUN_FILE.match(path)
        if found and found[1] != state and not images.is_cut(found[1], state):
            return True
    return False


def _files(pid: int) -> Iterator[str]:
    """The paths of what it has open; for its root, that of the image which that is in."""
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
    yield _text(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file").strip()


def _directories(state: str) -> Iterator[SlotDirectory]:
    for name in _names(f"{state}/slots"):
        if name.isdigit():
            path = f"{state}/slots/{name}"
            yield SlotDirectory(int(name), _text(f"{path}/session").strip(), _age(path))


def loops(state: str) -> Iterator[Loop]:
    """The loop devices on images below `state`."""
    for device, name in images.devices():
        if image := images.below(state, device, name):
            yield Loop(device, image)


def objects(uids: range) -> Iterator[Object]:
    """The System V objects that these uids have, or have made."""
    now = time.time()
    for kind, column in _OBJECTS:
        for line in _text(f"/proc/sysvipc/{kind}").splitlines()[1:]:
            fields = line.split()
            owners = (int(fields[column]), int(fields[column + 2]))
            uid = next((uid for uid in owners if uid in uids), None)
            if uid is not None:
                changed = int(fields[13 if kind == "shm" else -1])
                yield Object(kind, int(fields[1]), uid, max(0.0, now - changed))


def keys(uids: range) -> Iterator[Object]:
    """Users with keys (proc(5), /proc/key-users)."""
    for line in _text("/proc/key-users").splitlines():
        uid, _, rest = line.partition(":")
        fields = rest.split()
        if int(uid) in uids and int(fields[1].partition("/")[0]):
            yield Object("keys", int(fields[1].partition("/")[0]), int(uid), 0.0)


def _temporaries(state: str) -> Iterator[Temporary]:
    for pattern in ("blank/*.new", "folders/*/image.*.new", f"{trial_directory.PREFIX}*"):
        for path in glob.glob(f"{glob.escape(state)}/{pattern}"):
            yield Temporary(path[len(state) :], _age(path))


def _bytes(state: str) -> dict[int, int]:
    """Bytes on disk of each slot's image."""
    found = {}
    for name in _names(f"{state}/slots"):
        try:
            found[int(name)] = os.stat(f"{state}/slots/{name}/image").st_blocks * 512
        except (OSError, ValueError):
            continue
    return found


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


def _text(path: str, most: int = -1) -> str:
    """What is in a file, `most` bytes of it; nothing, if it is gone."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return ""
