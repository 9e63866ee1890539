"""A cgroup that holds a whole daemon with all its runs, and so counts their CPU time.

On v1 it is a group of cpuacct only: the daemon makes the groups of its runs below its own group of
each controller. On v2 it is a group of the top level, and the daemon is alone in it, so it makes
the groups of its runs there.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sandboxd.host import cgroup_places, cgroupfs

_PREFIX = "bench-of-sandboxd-"
_PATIENCE_S = 10.0
_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


class CpuGroup:
    """The group of this benchmark for `name`."""

    def __init__(self, name: str) -> None:
        mounts = cgroup_places.mounts()
        top = mounts.get("", "")
        self._v2 = bool(top) and set(cgroupfs.V2_CONTROLLERS) <= cgroupfs.controllers(top)
        if self._v2:
            cgroupfs.hand_down(top, cgroupfs.V2_CONTROLLERS)
        own = "" if self._v2 else cgroup_places.paths_of().get("cpuacct", "").rstrip("/")
        above = f"{top if self._v2 else mounts['cpuacct']}{own}"
        _clear_old(above)
        self.path = f"{above}/{_PREFIX}{os.getpid()}-{name}"
        os.mkdir(self.path)

    def join(self) -> None:
        """Move this process into the group."""
        Path(self.path, "cgroup.procs").write_text("0")

    def cpu_ms(self) -> float:
        """CPU time of all processes that are or were in the group."""
        if self._v2:
            lines = Path(self.path, "cpu.stat").read_text().splitlines()
            return int(dict(line.split() for line in lines)["usage_usec"]) / 1000
        return int(Path(self.path, "cpuacct.usage").read_text()) / 1e6

    def pids(self) -> list[int]:
        """The processes of the daemon and of its runs."""
        return [
            int(pid)
            for directory, _, _ in os.walk(self.path)
            for pid in Path(directory, "cgroup.procs").read_text().split()
        ]

    def remove(self) -> None:
        """Remove the group and the groups in it, once the last process has ended."""
        deadline = time.monotonic() + _PATIENCE_S
        while os.path.isdir(self.path):
            _remove_tree(self.path)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.path} cannot be removed; a process is in it")
            time.sleep(0.002)


def _clear_old(above: str) -> None:
    """Remove the groups of benchmarks that were killed."""
    for entry in os.scandir(above):
        pid = entry.name.removeprefix(_PREFIX).partition("-")[0]
        if entry.name.startswith(_PREFIX) and not os.path.isdir(f"/proc/{pid}"):
            _remove_tree(entry.path)


def _remove_tree(path: str) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):  # the daemon has removed it meanwhile, or a process ends
            os.rmdir(directory)


def cpu_by_title(pids: list[int]) -> Counter[str]:
    """Milliseconds of CPU time of these processes, without their children, by their titles."""
    times: Counter[str] = Counter()
    for pid in pids:
        with suppress(OSError):  # it has ended
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])  # utime, stime (proc(5))
            times[title(pid)] += round(ticks * _TICK_MS)
    return times


def title(pid: int) -> str:
    """The name of a process in the table: "api" of "sandboxd: api"."""
    text = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    if text.startswith("sandboxd: "):
        return text.removeprefix("sandboxd: ").split(" slot ")[0]
    return Path(f"/proc/{pid}/comm").read_text().strip()


def switches(pids: list[int]) -> int:
    """The context switches of all threads of these processes so far."""
    return sum(_numbers(pids))


def _numbers(pids: list[int]) -> Iterator[int]:
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/status"):
            with suppress(OSError):  # the thread has ended
                for line in path.read_text().splitlines():
                    if "ctxt_switches" in line:
                        yield int(line.split()[1])


def memory(pids: list[int]) -> int:
    """Bytes of these processes; a shared page counts in proportion (PSS)."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
