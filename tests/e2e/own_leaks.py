"""The resources of sandboxd on this host that these tests have made, apart from those of others."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from pathlib import Path

from sandboxd.host import procfs
from sandboxd.warden.runs.cgroups import own_name

from ..processes import ancestors, files, titles

COUNT = 64
"""The slots of a daemon of these tests."""


def first_uid() -> int:
    """The first uid of this process's daemons (not of the import: processes fork after it), apart
    from those of other tests under way: a uid is one daemon's, also while that is down."""
    return 730000 + os.getpid() % 1000 * 128


def leaks() -> set[str]:
    """Mounts, cgroups, processes and private directories of sandboxd that these tests have made.

    Other daemons of the machine, and what other tests under way have made, are left out.
    """
    top = tempfile.gettempdir()
    there = {line for line in Path("/proc/mounts").read_text().splitlines() if f"{top}/" in line}
    processes = Processes()
    there.update(
        f"{pid} {title}" for pid, title in processes.titles.items()
        if processes.is_ours(pid) and not processes.is_in_pool(pid)
    )  # fmt: skip
    there.update(glob.glob(f"{top}/sandboxd-????????"))
    return there | _groups(processes)


class Processes:
    """The processes of sandboxd at one moment. Each process is read once: there may be hundreds."""

    def __init__(self) -> None:
        self.titles = titles("sandboxd: ")
        self._is_ours: dict[int, bool] = {1: False}
        self._links: dict[int, list[str]] = {}

    def is_ours(self, pid: int) -> bool:
        """This test run has started the process, itself or by a daemon that is gone now: the
        process or a parent of it has a uid or a file of this test run."""
        if pid not in self._is_ours:
            self._is_ours[pid] = (
                pid == os.getpid()
                or _has_our_uid(pid)
                or any(self.is_ours(parent) for parent in ancestors(pid)[:1])
                or any(link.startswith(f"{tempfile.gettempdir()}/") for link in self.files(pid))
            )
        return self._is_ours[pid]

    def is_in_pool(self, pid: int) -> bool:
        """The process waits for runs of a daemon that lives; others follow it at any time."""
        waits = self.titles[pid] in ("sandboxd: prepared", "sandboxd: spawner", "sandboxd: jobs")
        return waits and any(self.titles.get(one) == "sandboxd: warden" for one in ancestors(pid))

    def state_directories(self) -> tuple[set[str], set[str]]:
        """The names of the cgroups of living daemons and shims: first those of other test runs and
        of services, then those of this test run."""
        names: tuple[set[str], set[str]] = set(), set()
        for pid in self.titles:
            marks = ("/slots/", "/api/", "/lock")
            parts = (link.partition(mark) for link in self.files(pid) for mark in marks)
            states = {before for before, mark, _ in parts if mark}
            names[self.is_ours(pid)].update(map(own_name, states))
        return names

    def files(self, pid: int) -> list[str]:
        """The files that a process has open; none when it is gone."""
        if pid not in self._links:
            self._links[pid] = _files(pid)
        return self._links[pid]


SETTLE_S = 60.0
_of_before: set[str] = set()
"""Cgroups without an owner that were there before, and stay."""


def _groups(processes: Processes) -> set[str]:
    """The cgroups of daemons, but for those whose daemon is somebody else's and lives.

    A group names its owner by a hash only. One that has no living owner may belong to another's
    daemon that begins or ends just now, so it gets a moment to go.
    """
    deadline = time.monotonic() + SETTLE_S
    while True:
        others, own = processes.state_directories()
        there = {
            f"{top}/{name}"
            for top, directories, _ in os.walk("/sys/fs/cgroup")
            for name in directories
            # the warden of the tests themselves has names with "test", and they share it
            if name.startswith("sandboxd-") and "test" not in name and name not in others
        }
        ownerless = {path for path in there if os.path.basename(path) not in own} - _of_before
        if not ownerless:
            return there
        if time.monotonic() > deadline:
            _of_before.update(ownerless)
            return there
        time.sleep(0.1)
        processes = Processes()


def _has_our_uid(pid: int) -> bool:
    (uids,) = procfs.status(pid, "Uid")
    ours = range(first_uid() - 1, first_uid() + COUNT)  # the one below the slots' is the api's
    return bool(uids) and int(uids.split()[0]) in ours


def _files(pid: int) -> list[str]:
    """The files that a process has open; none when it is gone."""
    try:
        top = os.readlink(f"/proc/{pid}/root").rstrip("/")  # its own root may be another
    except OSError:
        return []
    links = files(pid).values()
    return [link.removeprefix(top) if link.startswith(f"{top}/") else link for link in links]
