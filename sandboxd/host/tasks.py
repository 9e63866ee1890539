"""The tasks that this host can have: its bounds on processes and threads, and their use.

    kernel.pid_max, kernel.threads-max   all tasks of the host (proc(5))
    pids.max                             the tasks of a cgroup: of the daemon's own (TasksMax= of
                                         systemd), of the delegated one, and of each above them

Tasks of runs that the daemon has admitted are counted by admission, so they are left out of the
use that is measured here. The warden opens the files of the cgroups while it is root: their
directories are closed to the api, which reads the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from . import cgroup_places, procfs
from .cgroupfs import GroupFiles

OWN_TASKS = 2
"""Tasks of a run beside those of its program: its shim and its init."""

NO_BOUND = 1 << 31
"""More tasks than any kernel has."""

_KERNEL = ("pid_max", "threads-max")


@dataclass(frozen=True, slots=True)
class TaskBound:
    """A bound on tasks, and the tasks under it that belong to no run.

    name  for the operator: the sysctl, or the file of the cgroup
    """

    name: str
    most: int
    others: int

    @property
    def free(self) -> int:
        """The tasks that runs may have under this bound."""
        return max(0, self.most - self.others)

    def __str__(self) -> str:
        return f"{self.name} is {self.most}, and {self.others} belong to no run"


@dataclass(frozen=True, slots=True)
class HostTasks:
    """The bounds at one moment."""

    bounds: tuple[TaskBound, ...]

    @property
    def most(self) -> int:
        """The least of the bounds."""
        return min((bound.most for bound in self.bounds), default=NO_BOUND)

    @property
    def free(self) -> int:
        """The tasks that are left under each bound."""
        return min((bound.free for bound in self.bounds), default=NO_BOUND)

    @property
    def tightest(self) -> TaskBound:
        """The bound that leaves the fewest tasks."""
        return min(
            self.bounds, key=lambda bound: bound.free, default=TaskBound("none", NO_BOUND, 0)
        )


@dataclass(frozen=True, slots=True)
class _Group:
    """The open files of a cgroup, whose bound `name` names; `has_runs`: all runs are below it."""

    name: str
    files: GroupFiles
    has_runs: bool


class TaskMeter:
    """Reads the bounds.

    groups  directories of cgroups whose pids.max holds for the daemon or for its runs
    runs    the directory of the group above all runs; "": unknown, so no task counts as a run's
    """

    def __init__(self, groups: Sequence[str] = (), runs: str = "") -> None:
        self._groups = [
            _Group(f"{path}/pids.max", _open(path), f"{runs}/".startswith(f"{path}/"))
            for path in groups
        ]
        self._runs = _open(runs) if runs else None

    @classmethod
    def of_daemon(cls, delegated: str = "", runs: str = "") -> TaskMeter:
        """The meter of the daemon that this process belongs to."""
        return cls(task_groups(delegated), runs)

    def close(self) -> None:
        """Close the files."""
        for files in (*(group.files for group in self._groups), self._runs):
            if files is not None:
                files.close()
        self._groups, self._runs = [], None

    def measure(self) -> HostTasks:
        """The bounds of this moment; one that cannot be read is left out."""
        runs = 0
        with suppress(OSError, ValueError):  # it is gone
            runs = self._runs.pids_current() if self._runs else 0
        return HostTasks((*self._of_kernel(runs), *self._of_groups(runs)))

    def _of_kernel(self, runs: int) -> Iterator[TaskBound]:
        # "0.00 0.01 0.05 1/123 4567": 123 tasks (proc_loadavg(5)).
        words = procfs.text("/proc/loadavg").split()
        in_use = _number(words[3].partition("/")[2]) if len(words) > 3 else None
        for name in _KERNEL:
            if (most := _number(procfs.text(f"/proc/sys/kernel/{name}"))) is not None:
                yield TaskBound(f"kernel.{name}", most, max(0, (in_use or 0) - runs))

    def _of_groups(self, runs: int) -> Iterator[TaskBound]:
        for group in self._groups:
            with suppress(OSError, ValueError):  # it is gone, or is a root, which has no bound
                most, in_use = group.files.pids_limit(), group.files.pids_current()
                others = max(0, in_use - runs) if group.has_runs else in_use
                if most >= 0:
                    yield TaskBound(group.name, most, others)


def task_groups(delegated: str = "") -> list[str]:
    """The directories of this process's group, of the group `delegated` (a path below the mount
    point), and of each group above them, as far as they count tasks."""
    points, own = cgroup_places.mounts(), cgroup_places.paths_of()
    places: dict[str, None] = {}
    for controller in ("pids", ""):
        if (point := points.get(controller)) is not None:
            for path in (own.get(controller, ""), delegated):
                places |= dict.fromkeys(_lineage(point, path))
    return [place for place in places if os.path.exists(f"{place}/pids.current")]


def _lineage(point: str, path: str) -> list[str]:
    """The directories of the group at `path` and of each above it. A path that leads out of a
    cgroup namespace ("/..") is that of the mount point."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    return ["/".join([point, *parts[:length]]) for length in range(len(parts), -1, -1)]


def _open(directory: str) -> GroupFiles:
    """The group at `directory`; v1 and v2 have the same files of tasks."""
    files = GroupFiles({"pids": directory})
    files.open_to_read("pids.max", "pids.current")
    return files


def _number(text: str) -> int | None:
    """The number in a text; None where there is none."""
    with suppress(ValueError):
        return int(text)
    return None
