"""The tree of a run: its root while it is being built, and the proof of its mounts.

mounts.py has the parts, and rootfs.py their list. At last `pivot` makes the tree the root and drops
the host's, and `verify` compares /proc/self/mountinfo with the plan, in both directions.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import StageError
from ..host import mountinfo
from . import syscalls
from .mounts import RDONLY, Bind, FileMount, FolderMount, Mask, Mount, Part, names
from .stage import expect, stage

_MOUNTED = (Mount, Bind, FileMount, FolderMount, Mask)
_TYPED = (Mount, Bind)


@functools.cache
def _options(attributes: int) -> frozenset[str]:
    return frozenset(names(attributes))


@dataclass
class Tree:
    """A root that is being built at `root`, and the parts that are already in it.

    Once its first file system is mounted, it is the working directory, and so the prefix of all
    paths is short: to look up those of `root` hundreds of times took 0.3 ms of a run.
    """

    root: str
    done: list[Part] = field(default_factory=list)
    _prefix: str = ""

    def __post_init__(self) -> None:
        self._prefix = self.root

    def apply(self, parts: Iterable[Part]) -> None:
        """Put `parts` in, in order."""
        for part in parts:
            try:  # not `with stage`: there are a hundred parts
                part.apply(self._prefix)
                if isinstance(part, Mount) and part.path == "/":
                    os.chdir(self.root)
                    self._prefix = "."
            except OSError as error:
                raise StageError.of(f"mounts {part.path}", error) from error
            self.done.append(part)

    def seal(self, paths: Iterable[str]) -> None:
        """Make the mounts at `paths`, until now writable for us, read-only."""
        for path in paths:
            with stage(f"mounts {path}"):
                fd = syscalls.open_tree(self._prefix + path, 0)
                syscalls.mount_setattr(fd, RDONLY, recursive=False)
                os.close(fd)

    def pivot(self, workdir: str) -> None:
        """Make the tree the root of this mount namespace, drop the old one, enter `workdir`."""
        with stage("pivot_root"):
            os.chdir(self.root)
            # pivot_root(2), "pivot_root(., .)": the old root is stacked upon the new one,
            # so no directory for it is needed, and the detach below removes it for good.
            syscalls.pivot_root(".", ".")
            syscalls.umount2(".", syscalls.MNT_DETACH)
            os.chdir("/")
            os.chdir(workdir)

    def verify(self, sealed: Iterable[str]) -> None:
        """Exactly the planned mounts are there, with their attributes, and none is shared."""
        with stage("mounts"):
            mounts = mountinfo.read()
        mounted = [part for part in self.done if isinstance(part, _MOUNTED)]
        wanted = {part.path: _options(part.attributes) for part in mounted}
        for path in sealed:
            wanted[path] |= {"ro"}
        types = {p.path: p.fstype for p in mounted if isinstance(p, _TYPED) and p.fstype}
        points = set()
        for mount in mounts:
            point = mount.point
            points.add(point)
            if mount.propagation:
                raise StageError("mounts", f"{point} is shared: {mount.propagation}")
            if (planned := wanted.get(point)) is None:
                raise StageError("mounts", f"{point} is not planned")
            if missing := planned.difference(mount.options):
                raise StageError("mounts", f"missing on {point}: {sorted(missing)}")
            if fstype := types.get(point):
                expect("mounts", f"type of {point}", mount.fstype, fstype)
        expect("mounts", "not mounted", sorted(wanted.keys() - points), [])
