"""Where on this host the daemon may make cgroups, and which exist.

v2, in this order:

    given      a group that a service manager has delegated for the runs, apart from the daemon's,
               so that they can go on while the daemon is started again: systemd puts no process
               into a group that hands controllers down, so a service cannot be started again in
               the group where its runs still are (systemd/sandboxd-runs.service)
    its own    when the daemon is alone in it, as a service with Delegate=yes is
    top level  `sandboxd-...`, when it was started from a shell, whose group belongs to others too

A group that hands controllers down may hold no processes: what is in it moves into a leaf,
`daemon`. Shims have a leaf of their own, `shims`; the rest are runs, `SLOT.RUN`.

v1: a directory below the given group or the daemon's own, for each controller; shims move to
the given group as systemd sees it, in its own hierarchy, which has no controller. That is a v2
hierarchy where systemd finds one (its hybrid mode), else the v1 hierarchy `name=systemd`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ..errors import StageError
from ..jail.cgroup import Group, own_paths
from ..jail.stage import expect, stage

V1_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")
V2_CONTROLLERS = ("cpu", "memory", "pids")
_LEAVES = ("daemon", "shims")


class Hierarchy:
    """Where this host lets the daemon make groups; `base` maps controller to directory.

    shims  where shims go; None: they stay with the daemon
    """

    def __init__(self, base: Mapping[str, str], name: str, shims: str | None = None) -> None:
        self.base = dict(base)
        self.name = name
        self.shims = shims

    @classmethod
    def find(cls, name: str, given: str = "") -> Hierarchy:
        """Make the daemon's own group, `name`, or take the `given` one, a path below the mount
        point of cgroups, and hand the controllers down to it.

        To be called before the daemon has children. Raises StageError when a controller is
        missing, or when the given group is not there or not delegated.
        """
        with stage("cgroup"):
            mounts = _mounts()
            v2 = mounts.get("")
            if v2 and set(V2_CONTROLLERS) <= set(_words(f"{v2}/cgroup.controllers")):
                base = _v2_base(v2, name, given)
                os.makedirs(f"{base}/shims", exist_ok=True)
                return cls({"": base}, name, f"{base}/shims")
            missing = [c for c in V1_CONTROLLERS if c not in mounts]
            if missing:
                remedy = "mount cgroup2, or boot with systemd.unified_cgroup_hierarchy=1"
                raise StageError("cgroup", f"no controller {', '.join(missing)}: {remedy}")
            own = own_paths()
            above = {c: f"/{given}" if given else own[c].rstrip("/") for c in V1_CONTROLLERS}
            dirs = {c: f"{mounts[c]}{above[c]}/{name}" for c in V1_CONTROLLERS}
            for path in dirs.values():
                os.makedirs(path, exist_ok=True)
            return cls(dirs, name, _v1_shims(mounts, given) if given else None)

    def group(self, run: str) -> Group:
        """A new group for `run`; one left over from a killed daemon is used again."""
        with stage("cgroup"):
            dirs = {controller: f"{path}/{run}" for controller, path in self.base.items()}
            for path in dirs.values():
                os.makedirs(path, exist_ok=True)
            return Group(dirs, self.shims)

    def groups(self) -> list[Group]:
        """All run groups that exist, whoever made them."""
        names = {
            entry.name
            for path in self.base.values()
            if os.path.isdir(path)
            for entry in os.scandir(path)
            if entry.is_dir() and entry.name not in _LEAVES
        }
        return [
            Group({c: f"{path}/{name}" for c, path in self.base.items()}) for name in sorted(names)
        ]

    def tidy(self, group: Group) -> None:
        """`group` is gone; if a daemon in another place (v1) has made it, so is that place."""
        for path in group.dirs.values():
            above = os.path.dirname(path)
            if os.path.basename(above) == self.name and above not in self.base.values():
                with contextlib.suppress(OSError):  # other runs are still there
                    os.rmdir(above)

    def remove(self) -> None:
        """Remove the daemon's own group, if it is empty."""
        for path in self.base.values():
            for directory in (f"{path}/shims", path):
                try:
                    os.rmdir(directory)
                except OSError:
                    continue  # its service manager's, or something is still there for the sweep


def own_name(state_dir: str) -> str:
    """What the daemon with this state directory calls its own group."""
    return "sandboxd-" + sha256(state_dir.encode()).hexdigest()[:8]


def places(name: str) -> list[str]:
    """Where a daemon that was started from here would make its group `name`, unless it had been
    given another."""
    mounts, own = _mounts(), own_paths()
    found = [f"{mounts['']}/{name}"] if "" in mounts else []
    paths = ((mounts.get(c), own.get(c)) for c in V1_CONTROLLERS)
    return found + [f"{mount}{path.rstrip('/')}/{name}" for mount, path in paths if mount and path]


def _mounts() -> dict[str, str]:
    """Controller (v2: "") -> mount point, from /proc/self/mountinfo (proc(5))."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fstype, _, options = right.split()[:3]
        point = left.split()[4]
        if fstype == "cgroup2":
            found.setdefault("", point)
        elif fstype == "cgroup":
            for option in options.split(","):
                found.setdefault(option, point)
    return found


def _words(path: str) -> list[str]:
    return Path(path).read_text().split()


def _v1_shims(mounts: Mapping[str, str], given: str) -> str | None:
    """The given group in the hierarchy by which systemd knows whose a process is; None where
    there is no such hierarchy."""
    if "name=systemd" not in mounts:
        return None
    for tree in ("", "name=systemd"):
        path = f"{mounts[tree]}/{given}" if tree in mounts else ""
        if path and os.path.isdir(path):
            return path
    raise StageError("cgroup", f"{path} is not there; start the service whose group it is")


def _v2_base(mount: str, name: str, given: str) -> str:
    """The group under which runs go, with its controllers handed down."""
    own = mount + own_paths()[""].rstrip("/")
    if given:
        base = f"{mount}/{given}"
        _expect_delegated(base)
    elif own != mount and _words(f"{own}/cgroup.procs") == [str(os.getpid())]:
        base = own
    else:
        base = f"{mount}/{name}"
        os.makedirs(base, exist_ok=True)
        _hand_down(mount)
    _clear(base)
    _hand_down(base)
    return base


def _expect_delegated(path: str) -> None:
    """systemd has given `path` away, and so keeps its hands off it (systemd.resource-control(5),
    Delegate=; the mark is in `cg_set_xattr` of its source since version 236)."""
    if not os.path.isdir(path):
        raise StageError("cgroup", f"{path} is not there; start the service whose group it is")
    try:
        mark = os.getxattr(path, "trusted.delegate")
    except OSError:
        mark = b""
    if mark != b"1":
        raise StageError("cgroup", f"{path} is not delegated to us; its unit needs Delegate=yes")


def _clear(base: str) -> None:
    """Move what is in the group into a leaf, so that it may have children with controllers."""
    for pid in _words(f"{base}/cgroup.procs"):
        os.makedirs(f"{base}/daemon", exist_ok=True)
        Path(base, "daemon", "cgroup.procs").write_text(pid)


def _hand_down(path: str) -> None:
    """Offer the controllers to the children of `path`; read back."""
    control = Path(path, "cgroup.subtree_control")
    control.write_text(" ".join(f"+{c}" for c in V2_CONTROLLERS))
    missing = sorted(set(V2_CONTROLLERS) - set(control.read_text().split()))
    expect("cgroup", f"controllers not handed down by {path}", missing, [])
