"""The scan: a survey of the kernel and the state directory for resources that may belong to slots.

Walking /proc takes long on a full host, so the scan runs in a forked child (background.py). A
resource of the survey may be gone when the survey is read: repair.py looks at it again.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterable, Iterator, Mapping

from ...host import cgroupfs, procfs
from ..doctor import trial_directory
from ..slots.host_resources import loops, objects, processes
from .rule import SlotDirectory, Survey, Temporary

AGAIN_S = 0.3
"""A loop device counts if it is still there after this long: the kernel releases it late."""


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


def _directories(state: str) -> Iterator[SlotDirectory]:
    for name in _names(f"{state}/slots"):
        if name.isdigit():
            path = f"{state}/slots/{name}"
            yield SlotDirectory(int(name), procfs.text(f"{path}/session").strip(), _age(path))


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
