"""Memory, process and CPU limits of a run, and its counters: cgroup v2, and v1 for old hosts.

The warden makes a `Group` for each run (warden/runs/cgroups.py), below one that holds the sum of
the session's runs (warden/runs/slot_group.py). The run's init joins the group before anything else.
The shim keeps the group's files open, so that neither process needs root or a path afterwards. Each
value that is written is read back. The names of the files and the differences between v1 and v2 are
in host/cgroupfs.py and host/cgroup_settings.py; this module decides the values.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import StageError
from ..host import cgroup_places, cgroup_settings, cgroupfs, procfs
from ..host.cgroup_settings import NEED_SWAP, UNLIMITED, V1_SOCKETS
from ..host.cgroupfs import GroupFiles
from ..host.pidfds import kill
from ..model import MIB, Limits
from .stage import expect, stage

RUN_GROUP = re.compile(r"(\d+)\.\d+", re.ASCII)
"""The name of a run's group: slot and run."""

SLOT_GROUP = re.compile(r"slot-(\d+)", re.ASCII)
"""The name of the group above those of a slot's runs."""

PERIOD_US = 100_000
TRIES = 2
"""Of a write and a read. The warden may hold the run in between (warden/runs/cpu_hold.py), once."""
INIT_TASKS = 1
"""The tasks of a group that are none of the program's: init. The shim is in another group."""
HELD_MAX = 1 * MIB
"""Bytes of files in memory that a run may leave behind. The kernel frees memory that nobody holds a
little later."""

SOCKETS_SHARE = 4
"""Part of a run's memory that v1 allows sockets in addition."""


@dataclass(frozen=True, slots=True)
class Counters:
    """The usage of the whole group since it was created; peaks since `Group.limit`.

    memory_peak   most memory at once, the page cache included
    memory_hits   how often memory was wanted when the limit was reached
    oom_kills     processes killed since nothing could be freed then
    pids_peak     most processes and threads at once, ever: it cannot be started anew
    pids_refused  how often a process or thread could not be created
    """

    cpu_us: int = 0
    memory_peak: int = 0
    memory_hits: int = 0
    oom_kills: int = 0
    pids_peak: int = 0
    pids_refused: int = 0


class Group:
    """The cgroup of one run.

    dirs    controller -> directory (v2: "" -> the one directory); empty when a warden was killed
            before it had noted the directories
    files   the control files in `dirs`
    shims   the directory of the group for the shims of all runs; None where they stay with the
            daemon
    """

    def __init__(self, dirs: Mapping[str, str], shims: str | None = None) -> None:
        self.files = GroupFiles(dirs)
        self.dirs = self.files.dirs
        self.shims = shims
        self._has_swap = True
        self._is_held = False
        self._in_force: list[tuple[str, str]] | None = None

    @property
    def v2(self) -> bool:
        """The group is one of cgroup v2."""
        return self.files.v2

    @property
    def name(self) -> str:
        """The last part of its path, the same for each controller."""
        return os.path.basename(next(iter(self.dirs.values()), ""))

    def hold(self) -> None:
        """Take from the host what `open` needs: the init of a run takes the host's root away from
        its shim."""
        with stage("cgroup"):
            self.files.hold()
            self._has_swap = self.files.can_limit_swap() or _has_swap()
            self._is_held = True

    def open(self) -> None:
        """Open all files that are needed once root is gone."""
        if not self._is_held:
            self.hold()
        with stage("cgroup"):
            self.files.open()
            self._is_held = False

    def close(self) -> None:
        """Close the files; the group itself stays."""
        self.files.close()

    def descriptors(self) -> list[int]:
        """The open files, for the caller that closes all others."""
        return self.files.descriptors()

    def join_shims(self) -> None:
        """Move this process, the run's shim, to the other shims. There, a service manager that ends
        the daemon by its group does not reach it; and the limits of the run's own group are the
        program's."""
        if self.shims:
            with stage("cgroup shims"):
                cgroupfs.join(self.shims)

    def join(self) -> None:
        """Move this process in."""
        with stage("cgroup"):
            self.files.join()

    def verify_joined(self) -> None:
        """The kernel says that this process is in the group; a cgroup namespace hides it later."""
        with stage("cgroup"):
            paths = cgroup_places.paths_of()
        for controller, directory in self.dirs.items():
            path = paths.get(controller, "")
            inside = _is_path_of(directory, path)
            expect("cgroup", f"member of {directory}, not {path}", inside, True)

    def limit(self, limits: Limits) -> None:
        """Set every limit for the next step, read each back, and start its peaks anew.

        Raises StageError, with EBUSY when more memory than that is in use and cannot be freed:
        v1 refuses then, and v2 would kill the group's init for it.
        """
        if self.v2 and self.files.shared_memory() >= limits.memory:
            raise StageError("cgroup memory.max", "too much is in use", errno.EBUSY)
        settings = self._settings(limits)
        if settings != self._in_force:  # only this process writes them
            self._in_force = None
            for name, value in settings:
                self._write(name, value)
            self._in_force = settings
        self.files.restart_peaks()

    def _settings(self, limits: Limits) -> list[tuple[str, str]]:
        """The files and values of `limits`, in the order of writing."""
        return [
            *cgroup_settings.memory(self.v2, limits.memory, limits.memory // SOCKETS_SHARE),
            ("pids.max", str(limits.pids + INIT_TASKS)),
            *cgroup_settings.cpu(self.v2, int(limits.cpus * PERIOD_US), PERIOD_US),
        ]

    def _write(self, name: str, value: str) -> None:
        if not self.files.is_open(name):
            if self._may_be_absent(name):
                return
            raise StageError("cgroup", f"{name} does not exist; swap cannot be denied")
        for _ in range(TRIES):
            with stage(f"cgroup {name}"):
                self.files.write(name, value)
                current = self.files.read(name)
            if value == UNLIMITED or _same_value(name, value, current):
                return  # UNLIMITED is only ever on the way to a limit
        expect(f"cgroup {name}", "value read back", current, value)

    def _may_be_absent(self, name: str) -> bool:
        """The group is limited without it: no swap, or no count of socket buffers in this v1."""
        return name == V1_SOCKETS or (name in NEED_SWAP and not self._has_swap)

    def counters(self) -> Counters:
        """The usage of the group, from the kernel. Raises StageError."""
        files = self.files
        with stage("cgroup counters"):
            return Counters(
                cpu_us=files.cpu_us(),
                memory_peak=files.memory_peak(),
                memory_hits=files.memory_hits(),
                oom_kills=files.oom_kills(),
                pids_peak=max(0, files.pids_peak() - INIT_TASKS),
                pids_refused=files.pids_refused(),
            )

    def cpu_s(self) -> float:
        """Seconds of CPU that the group has used. Raises StageError."""
        with stage("cgroup counters"):
            return self.files.cpu_us() / 1e6

    def memory(self) -> tuple[int, int]:
        """Bytes of memory that the processes hold at this moment, and of the page cache. Raises
        StageError."""
        with stage("cgroup counters"):
            return self.files.held_and_cached()

    def tasks(self) -> int:
        """The program's processes and threads of this moment. Raises StageError."""
        with stage("cgroup counters"):
            return max(0, self.files.pids_current() - INIT_TASKS)

    def members(self) -> set[int]:
        """Process ids in the group, by path, for the warden."""
        return self.files.members()

    def shared_memory(self) -> int:
        """Bytes of files in memory that the group is charged for, by path, for the warden."""
        return self.files.shared_memory()

    def holds_memory(self, beside: int = 0) -> bool:
        """A run that is over has left files in memory, which another run may hold, `beside` so many
        bytes that are somewhere else."""
        return self.shared_memory() > HELD_MAX + beside

    def kill(self) -> None:
        """SIGKILL all members and let none be added."""
        if self.files.kill_all():
            return
        self.files.refuse_forks()
        for pid in self.members():
            kill(pid, functools.partial(self.has, pid))

    def has(self, pid: int) -> bool:
        """The kernel says that the process is a member."""
        try:
            paths = cgroup_places.paths_of(pid).values()
        except OSError:
            return False
        return any(
            _is_path_of(directory, path) for directory in self.dirs.values() for path in paths
        )

    def remove(self) -> bool:
        """Remove the directories; False when something is still in one."""
        return self.files.remove()


def _is_path_of(directory: str, path: str) -> bool:
    """`path`, as /proc/PID/cgroup has it, is that of the group at `directory`."""
    return directory.endswith(path) and path.endswith(f"/{os.path.basename(directory)}")


def _same_value(name: str, written: str, read: str) -> bool:
    """The kernel has taken the value: it stores memory in whole pages."""
    if name.startswith("memory.") and written.isdigit() and read.isdigit():
        page = os.sysconf("SC_PAGE_SIZE")
        return int(written) // page == int(read) // page
    return written == read


def _has_swap() -> bool:
    return procfs.read("/proc/swaps").count("\n") > 1
