"""The control files of cgroups: their names in v1 and v2, reading, writing and parsing.

Other modules decide what is written: jail/cgroup.py, warden/runs/, warden/doctor/probes/.

v2 is one tree, so a group is one directory; v1 has a tree for each controller, so a group is a
directory in each. In both cases a group is a mapping from controller to directory, and the
controller of v2 is "". v2: Documentation/admin-guide/cgroup-v2.rst; v1: cgroup-v1/*.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress

from . import procfs
from .cgroup_settings import NEED_SWAP, OPTIONAL, PEAKS, V1_FILES, V2_FILES, WRITTEN

V1_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")
V2_CONTROLLERS = ("cpu", "memory", "pids")
ROOT = "/sys/fs/cgroup"
_V1_NO_LIMIT = 1 << 62
"""No limit of memory is the largest count of pages, in bytes."""
_PROCS = "cgroup.procs"
_TASKS = "tasks"
"""Moves one thread (v1). To move all threads of a process by cgroup.procs, the kernel waits for a
grace period of RCU, 8 to 16 ms on a quiet host. A process of one thread needs no wait when it moves
itself."""
_KILL = "cgroup.kill"
# With both limits alike, that of memory and swap together is met first. Kernels of today (seen
# with 6.18) count neither any more; all of them count oom_kill.
_V1_HITS = ("memory.failcnt", "memory.memsw.failcnt")


class GroupFiles:
    """The control files of one group: by path, or through descriptors after `open`.

    A process without root needs the descriptors: writing a limit asks for permission when the file
    is opened (kernfs), and a path may be out of its view.
    """

    def __init__(self, dirs: Mapping[str, str]) -> None:
        self.dirs = dict(dirs)
        self.v2 = "" in self.dirs
        self._fds: dict[str, int] = {}
        self._held: dict[str, int] = {}

    def hold(self) -> None:
        """Open the directories: `open` needs no path then."""
        for directory in set(self.dirs.values()):
            self._held[directory] = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self) -> None:
        """Open all files that a run needs, after `hold`. Raises OSError for one that is missing."""
        for name in (V2_FILES if self.v2 else V1_FILES).split():
            try:
                self._fds[name] = _open(name, self._held[self._directory(name) or ""])
            except FileNotFoundError:
                if name not in OPTIONAL:
                    raise
        _close(self._held)

    def open_to_read(self, *names: str) -> None:
        """Open these files, as far as the kernel has them, by path."""
        for name in names:
            with suppress(OSError):
                self._fds[name] = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the files; the group itself stays."""
        _close(self._fds)

    def descriptors(self) -> list[int]:
        """The open files."""
        return list(self._fds.values())

    def identity(self) -> tuple[int, ...]:
        """Inode numbers of the directories; those of a group that is made again differ."""
        return tuple(os.stat(directory).st_ino for directory in self.dirs.values())

    def is_open(self, name: str) -> bool:
        """The kernel had the file when the group was opened."""
        return name in self._fds

    def exists(self, name: str) -> bool:
        """The kernel has the file now, by path."""
        directory = self._directory(name)
        return directory is not None and os.path.exists(f"{directory}/{name}")

    def read(self, name: str) -> str:
        """The text of a file."""
        if name in self._fds:
            return os.pread(self._fds[name], 16384, 0).decode().strip()
        return procfs.read(self._path(name)).strip()

    def write(self, name: str, value: str) -> None:
        """Write a value into a file."""
        if name in self._fds:
            os.pwrite(self._fds[name], value.encode(), 0)
        else:
            procfs.write(self._path(name), value)

    def join(self) -> None:
        """Move this process, which has one thread, into the group, by path."""
        for directory in self.dirs.values():
            join(directory, self.v2)

    def members(self) -> set[int]:
        """The process ids in the group, by path; none when it is gone."""
        return {pid for directory in self.dirs.values() for pid in members(directory)}

    def kill_all(self) -> bool:
        """Kill all members by one write (v2, Linux 5.14); False where the kernel cannot."""
        if self.v2 and self.exists(_KILL):
            self.write(_KILL, "1")
            return True
        return False

    def refuse_forks(self) -> None:
        """Let no process be added to the group by fork."""
        if self.exists("pids.max"):
            self.write("pids.max", "0")

    def set_cpu_quota(self, quota_us: int, period_us: int) -> None:
        """Let the members run for `quota_us` of each `period_us`, by path."""
        if self.v2:
            self.write("cpu.max", f"{quota_us} {period_us}")
        else:
            self.write("cpu.cfs_quota_us", str(quota_us))
            self.write("cpu.cfs_period_us", str(period_us))

    def restart_peaks(self) -> None:
        """Start the peak of memory anew where this kernel can (v1; v2 since 6.12). Elsewhere the
        peak is of the whole run: larger, never smaller than the true one."""
        for name in PEAKS:
            if name in self._fds:
                with suppress(OSError):
                    os.pwrite(self._fds[name], b"0", 0)

    def memory_in_use(self) -> int:
        """Bytes of memory that the group is charged for."""
        return int(self.read("memory.current" if self.v2 else "memory.usage_in_bytes"))

    def shared_memory(self) -> int:
        """Bytes of files in memory that the group is charged for; 0 when it is gone."""
        with suppress(FileNotFoundError):
            return self._key("memory.stat", "shmem")
        return 0

    def held_and_cached(self) -> tuple[int, int]:
        """Bytes of anonymous and shared memory, huge pages included, and of the page cache."""
        stat = self.read("memory.stat")
        shared = _number(stat, "shmem")
        held = _number(stat, "anon" if self.v2 else "rss") + shared
        return held, _number(stat, "file" if self.v2 else "cache") - shared

    def held_below(self) -> int:
        """Bytes of anonymous and shared memory of the group and of all groups below it."""
        stat = self.read("memory.stat")
        names = ("anon", "shmem") if self.v2 else ("total_rss", "total_shmem")
        return sum(_number(stat, name) for name in names)

    def memory_limit(self) -> int:
        """The limit of memory in bytes; -1 for none."""
        text = self.read("memory.max" if self.v2 else "memory.limit_in_bytes")
        return int(text) if text.isdigit() and int(text) < _V1_NO_LIMIT else -1

    def memory_left(self) -> int:
        """The rest of the limit of memory, with the cache that the kernel takes back first."""
        cache = self._key("memory.stat", "inactive_file" if self.v2 else "total_inactive_file")
        return self.memory_limit() - self.memory_in_use() + cache

    def cpu_quota_us(self) -> int:
        """The CPU time of a period in microseconds; -1 for no limit."""
        text = self.read("cpu.max" if self.v2 else "cpu.cfs_quota_us").split()[0]
        return int(text) if text.isdigit() else -1

    def can_limit_swap(self) -> bool:
        """The kernel limits the swap of a group."""
        return any(map(self.exists, NEED_SWAP))

    def cpu_us(self) -> int:
        """CPU time of all members, also of those that have ended."""
        if self.v2:
            return self._key("cpu.stat", "usage_usec")
        return int(self.read("cpuacct.usage")) // 1000

    def throttled(self) -> int:
        """How often members had to wait for the next period of their CPU quota."""
        return self._key("cpu.stat", "nr_throttled")

    def memory_peak(self) -> int:
        """The most memory since the last `restart_peaks`; 0 where the kernel does not count it."""
        return self._optional("memory.peak" if self.v2 else "memory.max_usage_in_bytes")

    def memory_hits(self) -> int:
        """How often memory was wanted when the limit was reached."""
        if self.v2:
            return self._key("memory.events", "max")
        return sum(map(self._optional, _V1_HITS))

    def oom_kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        return self._key("memory.events" if self.v2 else "memory.oom_control", "oom_kill")

    def pids_current(self) -> int:
        """Processes and threads at this moment."""
        return int(self.read("pids.current"))

    def pids_limit(self) -> int:
        """The most processes and threads that are allowed; -1 for no limit."""
        text = self.read("pids.max")
        return -1 if text == "max" else int(text)

    def pids_peak(self) -> int:
        """The most processes and threads at once; 0 where the kernel does not count it."""
        return self._optional("pids.peak")

    def pids_refused(self) -> int:
        """How often a process or thread could not be created."""
        return self._key("pids.events", "max") if self.is_open("pids.events") else 0

    def remove(self) -> bool:
        """Remove the directories; False when something is still in one."""
        for directory in self.dirs.values():
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def _optional(self, name: str) -> int:
        return int(self.read(name)) if self.is_open(name) else 0

    def _key(self, name: str, key: str) -> int:
        """The number beside `key` in a flat-keyed file; 0 when it is not there."""
        return _number(self.read(name), key)

    def _directory(self, name: str) -> str | None:
        """The directory that has the file `name`: v1 names begin with their controller."""
        return self.dirs.get("" if self.v2 else name.partition(".")[0])

    def _path(self, name: str) -> str:
        directory = self._directory(name)
        if directory is None:
            raise FileNotFoundError(f"no controller for {name}")
        return f"{directory}/{name}"


def _number(text: str, key: str) -> int:
    """The number beside `key` in the text of a flat-keyed file; 0 when it is not there."""
    rest = f"\n{text}".partition(f"\n{key} ")[2]
    return int(rest.partition("\n")[0]) if rest else 0


def sum_up(directory: str) -> None:
    """Let the new v1 group at `directory` count the memory of those below it, as in Linux 5.11."""
    switch = f"{directory}/memory.use_hierarchy"
    if os.path.exists(switch) and procfs.read(switch).strip() != "1":
        procfs.write(switch, "1")


def inherit_cpuset(directory: str) -> None:
    """Let new groups below the v1 group of cpuset at `directory` have its CPUs and memory."""
    procfs.write(f"{directory}/cgroup.clone_children", "1")


def members(directory: str) -> set[int]:
    """The process ids in the group at `directory`; none when it is gone."""
    try:
        return set(map(int, _words(f"{directory}/{_PROCS}")))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):  # ENODEV: gone since it was opened
            raise
        return set()


def move(directory: str, pid: int) -> None:
    """Move the process `pid` into the group at `directory`."""
    procfs.write(f"{directory}/{_PROCS}", str(pid))


def join(directory: str, v2: bool | None = None) -> None:
    """Move this process, which has one thread, into the group at `directory`, one of `v2`."""
    v2 = is_v2(directory) if v2 is None else v2
    procfs.write(f"{directory}/{_PROCS if v2 else _TASKS}", "0")


def is_v2(directory: str) -> bool:
    """`directory` is a group of v2."""
    return os.path.exists(f"{directory}/cgroup.controllers")


def controllers(directory: str) -> set[str]:
    """The controllers that the v2 group at `directory` may use."""
    return set(_words(f"{directory}/cgroup.controllers"))


def hand_down(directory: str, wanted: tuple[str, ...]) -> set[str]:
    """Offer controllers to the children of the v2 group at `directory`; those that they have."""
    control = f"{directory}/cgroup.subtree_control"
    procfs.write(control, " ".join(f"+{controller}" for controller in wanted))
    return set(_words(control))


def is_delegated(directory: str) -> bool:
    """systemd has delegated the group, and so does not change it (systemd.resource-control(5),
    Delegate=; the mark is in `cg_set_xattr` of its source since version 236)."""
    try:
        return os.getxattr(directory, "trusted.delegate") == b"1"
    except OSError:
        return False


def _close(files: dict[str, int]) -> None:
    for fd in files.values():
        os.close(fd)
    files.clear()


def _words(path: str) -> list[str]:
    return procfs.read(path).split()


def _open(name: str, directory: int) -> int:
    """Open a control file, for writing if values are written into it."""
    flags = os.O_RDWR if name in WRITTEN else os.O_RDONLY
    try:
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        if name not in PEAKS:  # some kernels cannot start these anew
            raise
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
