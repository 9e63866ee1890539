"""Where on this host the daemon may make cgroups, and which exist.

v2: a service with Delegate=yes is alone in its cgroup. It moves into a leaf, `daemon`, since a
group that hands controllers down may hold no processes, and puts runs beside it. Started from
a shell, its cgroup belongs to others too; then it makes a top-level group of its own. v1: a
directory below the daemon's own, for each controller.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import StageError
from ..jail.cgroup import Group, own_paths
from ..jail.stage import expect, stage

V1_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")
V2_CONTROLLERS = ("cpu", "memory", "pids")


class Hierarchy:
    """Where this host lets the daemon make groups; `base` maps controller to directory."""

    def __init__(self, base: Mapping[str, str], name: str) -> None:
        self.base = dict(base)
        self.name = name

    @classmethod
    def find(cls, name: str) -> Hierarchy:
        """Make the daemon's own group, `name`, and hand the controllers down to it.

        Raises StageError when a controller is missing.
        """
        with stage("cgroup"):
            mounts = _mounts()
            v2 = mounts.get("")
            if v2 and set(V2_CONTROLLERS) <= set(_words(f"{v2}/cgroup.controllers")):
                return cls({"": _v2_base(v2, name)}, name)
            missing = [c for c in V1_CONTROLLERS if c not in mounts]
            if missing:
                remedy = "mount cgroup2, or boot with systemd.unified_cgroup_hierarchy=1"
                raise StageError("cgroup", f"no controller {', '.join(missing)}: {remedy}")
            own = own_paths()
            base = {c: f"{mounts[c]}{own[c].rstrip('/')}/{name}" for c in V1_CONTROLLERS}
            for path in base.values():
                os.makedirs(path, exist_ok=True)
            return cls(base, name)

    def group(self, run: str) -> Group:
        """A new group for `run`; one left over from a killed daemon is used again."""
        with stage("cgroup"):
            dirs = {controller: f"{path}/{run}" for controller, path in self.base.items()}
            for path in dirs.values():
                os.makedirs(path, exist_ok=True)
            return Group(dirs)

    def groups(self) -> list[Group]:
        """All run groups that exist, whoever made them."""
        names = {
            entry.name
            for path in self.base.values()
            if os.path.isdir(path)
            for entry in os.scandir(path)
            if entry.is_dir() and entry.name != "daemon"
        }
        return [
            Group({c: f"{path}/{name}" for c, path in self.base.items()}) for name in sorted(names)
        ]

    def remove(self) -> None:
        """Remove the daemon's own group, if it is empty."""
        for path in self.base.values():
            try:
                os.rmdir(path)
            except OSError:
                continue  # its service manager's, or something is still there for the sweep


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


def _v2_base(mount: str, name: str) -> str:
    """The group under which runs go, with its controllers handed down."""
    own = mount + own_paths()[""].rstrip("/")
    alone = own != mount and set(_words(f"{own}/cgroup.procs")) == {str(os.getpid())}
    base = own if alone else f"{mount}/{name}"
    if alone:  # delegated to us: step into a leaf, so that the group may have children
        os.makedirs(f"{base}/daemon", exist_ok=True)
        Path(base, "daemon", "cgroup.procs").write_text("0")
    else:
        os.makedirs(base, exist_ok=True)
        _hand_down(mount)
    _hand_down(base)
    return base


def _hand_down(path: str) -> None:
    """Offer the controllers to the children of `path`; read back."""
    control = Path(path, "cgroup.subtree_control")
    control.write_text(" ".join(f"+{c}" for c in V2_CONTROLLERS))
    missing = sorted(set(V2_CONTROLLERS) - set(control.read_text().split()))
    expect("cgroup", f"controllers not handed down by {path}", missing, [])
