"""The overlays of a run: the host's directories with inodes that are the run's own.

Theory: a watch (inotify, dnotify), a lock (flock, fcntl) and a lease belong to an inode. A bind
mount shows the inodes of the host, so that a run would list live which programs others start, and
hold locks that others wait for. An overlay (overlayfs) without an upper directory has an inode of
its own for each file, and reads the host's file beneath. So each run mounts one for each file
system that it sees parts of:

    lowerdir=/:empty      the host's root; `empty` is there since overlayfs asks for two
    lowerdir=/usr:empty   a file system of the host at or below a visible path: overlays do not
                          cross mounts
    lowerdir=files:empty  the copy of files of /etc and /var/lib (shown_files.py)

A run clones the visible subtrees of each overlay. The overlays themselves are mounted in the old
root of the run, which goes away as a whole (Tree.pivot). Kernels before 6.15 clone no subtree of a
mount that was never attached. /proc/self/mountinfo shows programs the text of `lowerdir`: names
relative to the working directory hide the path of the state directory.

A mount on a single file, as containers have them, is no directory and gets no overlay. It is bound
as it is, and its inode is the host's. So are a socket and a FIFO that the operator names, which
would be dead behind an overlay. Of /etc, both are in the list of docs/security.md.

Only root can mark files as removed for an overlay (a device 0:0, trusted.overlay.*), as the layers
of containers on a disk have them. A run does not see such files.

The plan is made together with the copy, and not for each run: the list of mounts is long.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..host.mountinfo import MountInfo
from . import syscalls
from .mounts import NOEXEC, READ_ONLY, Bind
from .public_files import TREES

FSTYPE = "overlay"
COPY = "files"
"""The directory of the copy, beside EMPTY and LAYERS."""

EMPTY = "empty"
LAYERS = "layers"

# The module of the host may have other defaults, which look for handles of files and warn in the
# kernel's log. A directory with the mark of a redirect (trusted.overlay.redirect) would be closed
# with "nofollow"; with "follow" the mark leads into the empty directory, and so nowhere.
_OPTIONS = "xino=off,redirect_dir=follow,metacopy=off,index=off"

_SPECIAL = ("\\", ":", ",")
"""The backslash, and the characters that separate options and directories. A backslash before one
takes its meaning away."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay of the directory `lower`, mounted at `target`. Names are relative to `directory`,
    which becomes the working directory."""

    lower: str
    target: str
    directory: str

    @property
    def path(self) -> str:
        """Its name in errors: it has no place inside."""
        return f"overlay of {self.lower}"

    def describe(self) -> str:
        """The part in one line."""
        return f"overlay {self.lower}"

    def apply(self, root: str) -> None:
        """Mount it, outside of the tree at `root`."""
        os.chdir(self.directory)
        lower = self.lower
        for special in _SPECIAL:
            lower = lower.replace(special, f"\\{special}")
        options = f"lowerdir={lower}:{EMPTY},{_OPTIONS}"
        syscalls.mount("none", self.target, FSTYPE, READ_ONLY, options)  # MS_* have the same values


@dataclass(frozen=True, slots=True)
class Source:
    """The source of one mount: `path` inside shows `place` of overlay `layer`.

    part_of     the path of the configuration or a runtime that it is a part of
    layer       None: `place` is the path of a file of the host
    attributes  of the mount
    """

    part_of: str
    path: str
    layer: int | None
    place: str
    attributes: int = READ_ONLY


@dataclass(frozen=True, slots=True)
class HostView:
    """All that runs see of the host.

    directory  has the copy, the empty directory, and a place to mount each overlay
    files      paths to show over the copy, or elsewhere: of the operator and of runtimes
    lowers     the directories below the overlays
    """

    directory: str
    files: tuple[str, ...] = ()
    lowers: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()

    @property
    def copy(self) -> str:
        """The directory with the copies etc and var/lib."""
        return f"{self.directory}/{COPY}"

    def overlays(self) -> list[Overlay]:
        """The overlays to mount."""
        places = enumerate(self.lowers)
        return [self._overlay(n, lower) for n, lower in places if self._is_there(n)]

    def binds(self, path: str) -> list[Bind]:
        """The mounts that show `path` and what the host has mounted below it."""
        own = [source for source in self.sources if source.part_of == path]
        return [self._bind(one) for one in own if one.layer is None or self._is_there(one.layer)]

    def _overlay(self, number: int, lower: str) -> Overlay:
        return Overlay(lower, f"{LAYERS}/{number}", self.directory)

    def _is_there(self, number: int) -> bool:
        """The host may have unmounted it and removed its directory since the plan was made."""
        lower = self.lowers[number]
        return lower in (COPY, "/") or os.path.isdir(lower)

    def _bind(self, source: Source) -> Bind:
        if source.layer is None:
            return Bind(source.path, source.place, source.attributes)
        place = f"{self.directory}/{LAYERS}/{source.layer}/{source.place}".rstrip("/")
        return Bind(source.path, place, source.attributes, FSTYPE)


def plan(
    directory: str, paths: Iterable[str], files: Iterable[str], mounts: Iterable[MountInfo]
) -> HostView:
    """The view of the copy in `directory`, and of `paths` and `files` of the host with `mounts`."""
    points = _points(mounts)
    lowers = [COPY]
    sources = [Source(path, path, 0, path.lstrip("/")) for path in TREES]
    seen = set()
    for path in (*paths, *files):
        for inside, point, place in _mounts_of(path, points):
            if inside in seen:
                continue
            seen.add(inside)
            host, attributes = os.path.join(point, place).rstrip("/"), _attributes(points, point)
            if _needs_bind(host, mounted=not place):
                sources.append(Source(path, inside, None, host, attributes))
                continue
            if point not in lowers:
                lowers.append(point)
            sources.append(Source(path, inside, lowers.index(point), place, attributes))
    return HostView(directory, tuple(files), tuple(lowers), tuple(sources))


def make_places(view: HostView) -> None:
    """Make the directories that the overlays need."""
    os.mkdir(f"{view.directory}/{EMPTY}", 0o755)
    for number in range(len(view.lowers)):
        os.makedirs(f"{view.directory}/{LAYERS}/{number}", 0o755)


def _points(mounts: Iterable[MountInfo]) -> dict[str, list[str]]:
    """The mount points with their options; those above come first."""
    # Of two mounts on one point, the later one covers the other.
    return dict(sorted({mount.point: mount.options for mount in mounts}.items()))


def _attributes(points: Mapping[str, list[str]], point: str) -> int:
    """The attributes of what is shown of the mount at `point`. Overlays do not know of noexec."""
    return READ_ONLY | (NOEXEC if "noexec" in points.get(point, ()) else 0)


def _mounts_of(path: str, points: Iterable[str]) -> list[tuple[str, str, str]]:
    """The mounts that show `path`: the path inside, the mount point on the host, and the place
    below it. Links of the host on the way to `path` are followed now: in an overlay they would
    lead out of it."""
    real = os.path.realpath(path)
    above = [point for point in points if _is_below(real, point)]
    point = max(above, key=len, default="/")
    mounts = [(path, point, real[len(point) :].strip("/"))]
    for below in points:
        if below != real and _is_below(below, real):
            mounts.append((path + below[len(real) :], below, ""))
    return mounts


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _needs_bind(path: str, mounted: bool) -> bool:
    """`path` is a file on which something is `mounted`, or a socket or a FIFO."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) or (mounted and not stat.S_ISDIR(mode))
