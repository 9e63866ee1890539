"""Memory, process and CPU limits of a run, and its counters: cgroup v2, and v1 for old hosts.

The warden makes a `Group` for each run (warden/runs/cgroups.py); the run's init joins it before
anything else, and the shim keeps the group's files open, so that neither needs root or a path
afterwards: writing a limit asks for permission when the file is opened (kernfs). Each value
written is read back. v2: Documentation/admin-guide/cgroup-v2.rst; v1: cgroup-v1/*.rst, with a
directory for each of four controllers.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import StageError
from ..model import Limits
from .stage import expect, stage

PERIOD_US = 100_000
OWN_TASKS = 1
"""init, which is in the group and none of the program's."""
UNLIMITED = "-1"
SOCKETS_SHARE = 4
"""Part of a run's memory that v1 allows sockets in addition."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Of the whole group, since it was made; peaks since `Group.limit`.

    memory_hits   how often memory was wanted when the limit was reached
    oom_kills     processes killed since nothing could be freed then
    pids_peak     most processes and threads at once, ever: it cannot be started anew
    pids_refused  how often a process or thread could not be made
    """

    cpu_us: int = 0
    memory_peak: int = 0
    memory_hits: int = 0
    oom_kills: int = 0
    pids_peak: int = 0
    pids_refused: int = 0


class Group:
    """One run's cgroup: `dirs` maps controller to directory (v2: "" to the one directory); none,
    when a warden was killed before it had noted what it made.

    shims  the directory of the group for the shims of all runs; None where they stay with the
           daemon
    """

    def __init__(self, dirs: Mapping[str, str], shims: str | None = None) -> None:
        self.dirs = dict(dirs)
        self.shims = shims
        self.v2 = "" in self.dirs
        self._fds: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The last part of its path, the same for each controller."""
        return os.path.basename(next(iter(self.dirs.values()), ""))

    def open(self) -> None:
        """Open all files that are needed once root is gone."""
        with stage("cgroup"):
            for controller, name, optional in _V2_FILES if self.v2 else _V1_FILES:
                path = f"{self.dirs[controller]}/{name}"
                if not optional or os.path.exists(path):
                    self._fds[name] = _open(path)
            for controller, path in self.dirs.items():
                self._fds[f"procs {controller}"] = _open(f"{path}/cgroup.procs")

    def close(self) -> None:
        """Close the files; the group itself stays."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def descriptors(self) -> list[int]:
        """The open files, for who closes all others."""
        return list(self._fds.values())

    def join_shims(self) -> None:
        """Move this process, the run's shim, to the others: out of reach of whoever ends the
        daemon by its group, and not into the run's own, whose limits are the program's."""
        if self.shims:
            with stage("cgroup shims"):
                Path(self.shims, "cgroup.procs").write_text("0")

    def join(self) -> None:
        """Move this process in."""
        with stage("cgroup"):
            for name, fd in self._fds.items():
                if name.startswith("procs "):
                    os.write(fd, b"0")

    def verify_joined(self) -> None:
        """This process is in the group, says the kernel, until a cgroup namespace hides it."""
        with stage("cgroup"):
            paths = own_paths()
        for controller, path in self.dirs.items():
            found = paths.get(controller, "")
            right = path.endswith(found) and found.endswith("/" + os.path.basename(path))
            expect("cgroup", f"member of {path}, not {found}", right, True)

    def limit(self, limits: Limits) -> None:
        """Set every limit for the next step, read each back, and start its peaks anew.

        Raises StageError, with EBUSY when more memory than that is in use and cannot be freed:
        v1 refuses then, and v2 would kill the group's init for it.
        """
        if self.v2 and self._key("memory.stat", "shmem") >= limits.memory:
            raise StageError("cgroup memory.max", "too much is in use", errno.EBUSY)
        for name, value in (_v2_values if self.v2 else _v1_values)(limits):
            self._write(name, value)
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            self._reset(name)

    def _reset(self, name: str) -> None:
        """Start a peak anew where this kernel can (v1 memory; v2 memory since 6.12)."""
        if name in self._fds:
            try:
                os.pwrite(self._fds[name], b"0", 0)
            except OSError:
                pass  # the peak is then of the whole run: larger, never smaller than true

    def _write(self, name: str, value: str) -> None:
        if name not in self._fds:
            if name in _ABSENT_WITHOUT_SWAP and not _swap_possible():
                return
            if name == _V1_SOCKETS:  # not every kernel has v1 count them: security.md says so
                return
            raise StageError("cgroup", f"{name} does not exist; swap cannot be denied")
        with stage(f"cgroup {name}"):
            os.pwrite(self._fds[name], value.encode(), 0)
            found = self._read(name)
        if value == UNLIMITED:  # only ever on the way to a limit
            return
        if name.startswith("memory.") and value.isdigit() and found.isdigit():
            value, found = _page(value), _page(found)
        expect(f"cgroup {name}", "value read back", found, value)

    def _read(self, name: str) -> str:
        return os.pread(self._fds[name], 4096, 0).decode().strip()

    def _number(self, name: str) -> int:
        return int(self._read(name)) if name in self._fds else 0

    def _key(self, name: str, key: str) -> int:
        """The number beside `key` in a flat-keyed file."""
        if name in self._fds:
            for line in self._read(name).splitlines():
                word, _, value = line.partition(" ")
                if word == key:
                    return int(value)
        return 0

    def counters(self) -> Counters:
        """What the group has used, from the kernel. Raises StageError."""
        with stage("cgroup counters"):
            if self.v2:
                return Counters(
                    cpu_us=self._key("cpu.stat", "usage_usec"),
                    memory_peak=self._number("memory.peak"),
                    memory_hits=self._key("memory.events", "max"),
                    oom_kills=self._key("memory.events", "oom_kill"),
                    pids_peak=max(0, self._number("pids.peak") - OWN_TASKS),
                    pids_refused=self._key("pids.events", "max"),
                )
            return Counters(
                cpu_us=self._number("cpuacct.usage") // 1000,
                memory_peak=self._number("memory.max_usage_in_bytes"),
                memory_hits=sum(map(self._number, _V1_HITS)),
                oom_kills=self._key("memory.oom_control", "oom_kill"),
                pids_peak=max(0, self._number("pids.peak") - OWN_TASKS),
                pids_refused=self._key("pids.events", "max"),
            )

    def tasks(self) -> int:
        """The program's processes and threads of this moment. Raises StageError."""
        with stage("cgroup counters"):
            return max(0, self._number("pids.current") - OWN_TASKS)

    def members(self) -> set[int]:
        """Process ids in the group, by path, for the warden."""
        pids: set[int] = set()
        for path in self.dirs.values():
            try:
                pids.update(int(p) for p in Path(path, "cgroup.procs").read_text().split())
            except FileNotFoundError:
                continue
        return pids

    def shared_memory(self) -> int:
        """Bytes of files in memory, of /dev/shm or of none, that the group is charged for, by path,
        for the warden."""
        place = self.dirs.get("") or self.dirs.get("memory")
        try:
            lines = Path(place, "memory.stat").read_text().splitlines() if place else []
        except FileNotFoundError:
            return 0
        return next((int(line[6:]) for line in lines if line.startswith("shmem ")), 0)

    def kill(self) -> None:
        """SIGKILL all members and let none be added: v2 cgroup.kill (5.14), v1 by pids.max."""
        if self.v2 and os.path.exists(f"{self.dirs['']}/cgroup.kill"):
            Path(self.dirs[""], "cgroup.kill").write_text("1")
            return
        place = self.dirs.get("" if self.v2 else "pids")
        if place and os.path.exists(f"{place}/pids.max"):
            Path(place, "pids.max").write_text("0")
        for pid in self.members():
            self._kill(pid)

    def _kill(self, pid: int) -> None:
        """SIGKILL a member, and not another process that has got its number meanwhile."""
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self._has(pid):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(process)

    def _has(self, pid: int) -> bool:
        """The process is a member, says /proc/PID/cgroup (cgroups(7))."""
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            return False
        ours = tuple(f"/{'/'.join(path.split('/')[-2:])}" for path in self.dirs.values())
        return any(line.endswith(ours) for line in lines)

    def remove(self) -> bool:
        """Remove the directories; False when something is still in one."""
        for path in self.dirs.values():
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


_V1_SOCKETS = "memory.kmem.tcp.limit_in_bytes"
"""Buffers of sockets, TCP and UDP, which v1 counts apart, and only if told to. Else a program could
fill them up to the bound that is the whole host's (net.ipv4.tcp_mem, udp_mem; tcp(7), udp(7))."""

# controller, file, may be absent
_V1_FILES = (
    ("memory", "memory.limit_in_bytes", False),
    ("memory", "memory.memsw.limit_in_bytes", True),
    ("memory", _V1_SOCKETS, True),
    ("memory", "memory.max_usage_in_bytes", False),
    ("memory", "memory.failcnt", False),
    ("memory", "memory.memsw.failcnt", True),
    ("memory", "memory.oom_control", False),
    ("pids", "pids.max", False),
    ("pids", "pids.current", False),
    ("pids", "pids.peak", True),
    ("pids", "pids.events", True),
    ("cpu", "cpu.cfs_period_us", False),
    ("cpu", "cpu.cfs_quota_us", False),
    ("cpuacct", "cpuacct.usage", False),
)
_V2_FILES = (
    ("", "memory.max", False),
    ("", "memory.swap.max", True),
    ("", "memory.oom.group", False),
    ("", "memory.peak", True),
    ("", "memory.events", False),
    ("", "memory.stat", False),
    ("", "pids.max", False),
    ("", "pids.current", False),
    ("", "pids.peak", True),
    ("", "pids.events", False),
    ("", "cpu.max", False),
    ("", "cpu.stat", False),
)
# With both limits alike it is that of memory and swap together which is met first. Kernels of
# today (seen with 6.18) count neither any more; oom_kills they all do.
_V1_HITS = ("memory.failcnt", "memory.memsw.failcnt")
_ABSENT_WITHOUT_SWAP = ("memory.swap.max", "memory.memsw.limit_in_bytes")


def _v1_values(limits: Limits) -> list[tuple[str, str]]:
    memory = str(limits.memory)
    return [
        # memsw may never be below the memory limit: lift it, set the limit, then close it.
        ("memory.memsw.limit_in_bytes", UNLIMITED),
        ("memory.limit_in_bytes", memory),
        ("memory.memsw.limit_in_bytes", memory),
        (_V1_SOCKETS, str(limits.memory // SOCKETS_SHARE)),
        ("pids.max", str(limits.pids + OWN_TASKS)),
        ("cpu.cfs_period_us", str(PERIOD_US)),
        ("cpu.cfs_quota_us", str(int(limits.cpus * PERIOD_US))),
    ]


def _v2_values(limits: Limits) -> list[tuple[str, str]]:
    return [
        ("memory.swap.max", "0"),
        ("memory.oom.group", "0"),
        ("memory.max", str(limits.memory)),
        ("pids.max", str(limits.pids + OWN_TASKS)),
        ("cpu.max", f"{int(limits.cpus * PERIOD_US)} {PERIOD_US}"),
    ]


def _open(path: str) -> int:
    """Open a control file, for writing where it can be written (kernfs refuses it elsewhere)."""
    writable = os.stat(path).st_mode & 0o200
    return os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)


def _page(value: str) -> str:
    """A memory limit as the kernel keeps it, in whole pages."""
    return str(int(value) // os.sysconf("SC_PAGE_SIZE"))


def _swap_possible() -> bool:
    return len(Path("/proc/swaps").read_text().splitlines()) > 1


def own_paths() -> dict[str, str]:
    """Controller (v2: "") -> this process's cgroup, from /proc/self/cgroup (cgroups(7))."""
    paths = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths
