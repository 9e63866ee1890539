"""The copies of the host's files that jails show: made at start, and renewed when outdated.

Each copy (jail/shown_files.py) is in a tmpfs of its own, in the warden's mount namespace, together
with the places of the overlays (jail/overlays.py) that show runs this copy and the directories of
the host. A newer copy, which a background job makes, replaces the old one. The old one stays
mounted here until each child that was forked before has mounts of its own: a shim that is still
being set up looks for the copy by its path. The file system of the old one stays until the last run
that shows it has ended.

A copy is outdated when a package was installed or removed, when a named file of /etc was replaced,
and after a reload of the configuration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from typing import Any

from .. import log, runtimes
from ..config.settings import Config
from ..errors import StageError
from ..host import mountinfo, procfs
from ..jail import overlays, syscalls
from ..jail.overlays import HostView, Source
from ..jail.shown_files import Copier, Selection, stamp
from ..jail.stage import stage
from .background import BackgroundJobs

SIZE = 256 << 20
"""Bytes of one copy at most. That of a host with seventy languages has 5 MiB."""

PAUSE_S = 5.0
"""Between two copies, while apt is at work, and between two tries to make one."""

LOOK_S = 0.2
"""Between two looks at the host: each takes a tenth of a millisecond."""


def selection(config: Config) -> Selection:
    """The files that the configuration and its runtimes name. Raises ConfigError."""
    rootfs = config.rootfs
    visible = rootfs.paths if rootfs.package_files else ()
    unchanged = tuple(f"/etc/{name}" for name in rootfs.etc_unchanged)
    paths = (*unchanged, *runtimes.shown_paths(config))
    return Selection(rootfs.etc_builtin, rootfs.etc, paths, rootfs.package_files, visible)


class HostFiles:
    """The current copy, and how it is renewed."""

    def __init__(self, config: Config) -> None:
        self._directory = f"{config.state_dir}/host-files"
        self._number = 0
        self._working = False
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        for name in os.listdir(self._directory):  # of a daemon that was killed, no longer mounted
            with contextlib.suppress(OSError):
                os.rmdir(f"{self._directory}/{name}")
        self.select(config)
        self._stamp = stamp(self._selection)
        self._view = make_view(self._place(), self._selection, self._paths)
        self._outdated, self._looked = False, 0.0
        self._old: dict[str, set[int]] = {}  # old copies by place, and the children that need them

    def select(self, config: Config) -> None:
        """Show other files from the next copy on, which is due at once. Raises ConfigError."""
        self._selection = selection(config)
        self._paths = config.rootfs.paths
        self._outdated = True
        self._begun = -PAUSE_S

    def current(self) -> HostView:
        """The copy for a new run."""
        return self._view

    def look(self) -> None:
        """Compare the host with the copy. If the host has changed, the next copy will be made soon.

        A run that begins and a sweep make this comparison: the first run after an installation
        shall find a new copy. Of runs that follow one another at once, not each one does.
        """
        now = time.monotonic()
        if now < self._looked + LOOK_S:
            return
        self._looked = now
        if stamp(self._selection) != self._stamp:
            self._outdated = True

    def renew_if_outdated(self, jobs: BackgroundJobs) -> None:
        """Begin a job that makes a new copy, if one is due and none is being made."""
        self._unmount_old()
        now = time.monotonic()
        if not self._outdated or self._working or now < self._begun + PAUSE_S:
            return
        self._outdated, self._working, self._begun = False, True, now
        self._stamp = stamp(self._selection)
        place = self._place()
        selected, paths = self._selection, self._paths
        try:
            jobs.begin(
                "host-files",
                lambda: dataclasses.asdict(make_view(place, selected, paths)),
                lambda result: self._use(place, result),
                keep=(),
            )
        except StageError as error:  # no process can be made: the next try is after PAUSE_S
            self._outdated, self._working = True, False
            log.event("host-files.failed", logging.ERROR, path=place, error=str(error))

    def remove(self) -> None:
        """Remove the current copy, at the end of the warden. Runs that go on keep it."""
        for place in (self._view.directory, *self._old):
            self._unmount(place)
        self._old.clear()

    def _place(self) -> str:
        self._number += 1
        return f"{self._directory}/{self._number}"

    def _use(self, place: str, result: dict[str, Any] | None) -> None:
        self._working = False
        if result is None:
            log.event("host-files.failed", logging.ERROR, path=place)
            self._unmount(place)
            return
        self._old[self._view.directory] = _children_with_these_mounts()
        files, lowers = tuple(result["files"]), tuple(result["lowers"])
        sources = tuple(Source(**source) for source in result["sources"])
        self._view = HostView(result["directory"], files, lowers, sources)
        self._unmount_old()

    def _unmount_old(self) -> None:
        """Unmount the old copies that no child needs any more."""
        if not self._old:
            return
        current = _children_with_these_mounts()
        for place, children in list(self._old.items()):
            children &= current
            if not children:
                del self._old[place]
                self._unmount(place)

    def _unmount(self, place: str) -> None:
        with contextlib.suppress(OSError):  # the job failed before its mount
            syscalls.umount2(place, syscalls.MNT_DETACH)
        with contextlib.suppress(OSError):
            os.rmdir(place)


def _children_with_these_mounts() -> set[int]:
    """The children of this process that are in its mount namespace."""
    own = os.stat("/proc/self/ns/mnt").st_ino
    children = set()
    for pid in map(int, procfs.text(f"/proc/self/task/{os.getpid()}/children").split()):
        with contextlib.suppress(OSError):  # the child has ended
            if os.stat(f"/proc/{pid}/ns/mnt").st_ino == own:
                children.add(pid)
    return children


def make_view(place: str, selected: Selection, paths: tuple[str, ...]) -> HostView:
    """A new copy, mounted at `place`, and the plan for `paths` of the host. Raises StageError."""
    with stage("host files"):
        os.makedirs(place, mode=0o755, exist_ok=True)
        options = f"size={SIZE},mode=755"
        flags = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV  # MS_* have the same values
        syscalls.mount("none", place, "tmpfs", flags, options)
        shown = Copier(selected, f"{place}/{overlays.COPY}").copy()
        view = overlays.plan(place, paths, shown.binds, mountinfo.read())
        overlays.make_places(view)
        fd = syscalls.open_tree(place, 0)
        try:
            syscalls.mount_setattr(fd, syscalls.MOUNT_ATTR_RDONLY, recursive=False)
        finally:
            os.close(fd)
        return view
