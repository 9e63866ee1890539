"""The place among the host's cgroups where the daemon creates those of its runs.

v2, in this order:

    delegated  a group that a service manager has delegated for the runs, apart from the daemon's,
               so that runs go on while the daemon is started again: systemd puts no process
               into a group that hands controllers down, so a service cannot be started again in
               the group where its runs still are (systemd/sandboxd-runs.service)
    own        the daemon's own group, when no other process is in it (a unit with Delegate=yes)
    top level  `sandboxd-...`, when the daemon was started from a shell, whose group is shared

A group that hands controllers down may hold no processes: those move into a leaf, `daemon`.
Shims and the broker have leaves of their own, `shims` and `broker`. The other groups are those of
slots, `slot-SLOT`, and in each of them one for each run, `SLOT.RUN`. Runs of an earlier version are
in no slot's group.

v1: a directory below the delegated group or the daemon's own, for each controller, and for cpuset,
which programs want to read. Shims move to the delegated group as systemd sees it, in its own
hierarchy, which has no controller. That is a v2 hierarchy where systemd has one (its hybrid mode),
else the v1 hierarchy `name=systemd`.

Reading and writing of the files is host/cgroupfs.py's.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from hashlib import sha256

from ... import log
from ...errors import StageError
from ...host import cgroupfs, procfs
from ...host.cgroupfs import V1_CONTROLLERS, V2_CONTROLLERS
from ...jail.cgroup import SLOT_GROUP, Group
from ...jail.mounts import make_directory
from ...jail.stage import expect, stage

_LEAVES = ("daemon", "shims", "broker")

V1_CPUSET = "cpuset"
"""A controller without a limit here: a JVM reads its limits only where it also sees this one."""


class Hierarchy:
    """The place where this host lets the daemon create groups.

    base   controller -> directory (v2: "" -> the one directory)
    shims  the directory of the group that shims move to; None: they stay with the daemon
    own    the directory of the daemon's own group (v2), if that is not `base`
    """

    def __init__(
        self, base: Mapping[str, str], name: str, shims: str | None = None, own: str = ""
    ) -> None:
        self.base = dict(base)
        self.own = own
        self.name = name
        self.shims = shims

    @classmethod
    def find(cls, name: str, delegated: str = "") -> Hierarchy:
        """Create the daemon's own group, `name`, or take the `delegated` one, a path below the
        mount point of cgroups, and hand the controllers down to it.

        To be called before the daemon has children. Raises StageError when a controller is
        missing, or when the group is not there or not delegated.
        """
        with stage("cgroup"):
            mounts = cgroupfs.mounts()
            v2 = mounts.get("")
            if v2 and set(V2_CONTROLLERS) <= cgroupfs.controllers(v2):
                base = _v2_base(v2, name, delegated)
                own_group = v2 + cgroupfs.paths_of()[""].rstrip("/") if delegated else ""
                return cls({"": base}, name, f"{base}/shims", own_group)
            missing = [c for c in V1_CONTROLLERS if c not in mounts]
            if missing:
                remedy = "mount cgroup2, or boot with systemd.unified_cgroup_hierarchy=1"
                raise StageError("cgroup", f"no controller {', '.join(missing)}: {remedy}")
            own = cgroupfs.paths_of()
            above = {
                c: f"/{delegated}" if delegated else own[c].rstrip("/") for c in V1_CONTROLLERS
            }
            dirs = {c: f"{mounts[c]}{above[c]}/{name}" for c in V1_CONTROLLERS}
            _make(dirs)
            if V1_CPUSET in mounts:  # systemd delegates no group of it
                above_cpuset = own[V1_CPUSET].rstrip("/")
                dirs |= _try_cpuset(f"{mounts[V1_CPUSET]}{above_cpuset}/{name}")
            return cls(dirs, name, _v1_shims(mounts, delegated) if delegated else None)

    @property
    def tasks(self) -> str:
        """The directory that counts the tasks of all runs."""
        return self.base.get("", self.base.get("pids", ""))

    def group(self, name: str) -> Group:
        """A group of no slot; the one that a killed daemon has left is used again."""
        with stage("cgroup"):
            return self._leaf(self.base, name)

    def run_group(self, slot: int, run: int) -> Group:
        """A group for a run, below that of its slot, which is made with the first run."""
        with stage("cgroup"):
            dirs = self.slot_dirs(slot)
            if "" in dirs and not os.path.isdir(self.base[""]):
                _make_v2_base(self.base[""])  # another user of the group above has removed it
            _make(dirs)
            if "" in dirs:
                _hand_down(dirs[""])
            else:
                cgroupfs.sum_up(dirs["memory"])
            return self._leaf(dirs, f"{slot}.{run}")

    def broker_group(self) -> Group:
        """The group of the broker. Where the runs have a delegated group (v2), the rules of that
        group for addresses are not the broker's: its group is below that of the daemon."""
        with stage("cgroup broker"):
            above = dict(self.base)
            if self.own:
                _expect_delegated(self.own)
                _clear(self.own)
                _hand_down(self.own)
                above = {"": self.own}
            dirs = {c: f"{path}/broker" for c, path in above.items() if c != V1_CPUSET}
            _make(dirs)
            return Group(dirs)

    def slot_dirs(self, slot: int) -> dict[str, str]:
        """The directories of the group of `slot`."""
        return {controller: f"{path}/slot-{slot}" for controller, path in self.base.items()}

    def _leaf(self, above: Mapping[str, str], name: str) -> Group:
        dirs = {controller: f"{path}/{name}" for controller, path in above.items()}
        _make(dirs)
        for path in dirs.values():  # the run reads its own; the groups above stay closed
            os.chmod(path, 0o755)
        return Group(dirs, self.shims)

    def groups(self) -> list[Group]:
        """All run groups that exist, also those of an earlier daemon, and groups of slots that have
        no runs."""
        names = {name for path in self.base.values() for name in _names(path)}
        above = {os.path.dirname(name) for name in names}
        return [
            Group({c: f"{path}/{name}" for c, path in self.base.items()})
            for name in sorted(names - above)
        ]

    def remove_slot(self, slot: int) -> None:
        """Remove the group of `slot`, if it has no runs."""
        for path in self.slot_dirs(slot).values():
            _remove(path)

    def remove_idle(self) -> None:
        """Remove the groups of all slots that have no runs."""
        for path in self.base.values():
            for name in _directories(path):
                if is_slot_group(name):
                    _remove(f"{path}/{name}")

    def tidy(self, group: Group) -> None:
        """Remove the place of `group`, which is gone, if a daemon in another place (v1) made it."""
        for path in group.dirs.values():
            *slots, above = places_above(path)
            if os.path.basename(above) == self.name and above not in self.base.values():
                for one in (*slots, above):
                    _remove(one)

    def remove(self) -> None:
        """Remove the daemon's own group, if it is empty."""
        self.remove_idle()
        for path in self.base.values():
            for directory in (f"{path}/shims", f"{path}/broker", path):
                try:
                    os.rmdir(directory)
                except OSError:
                    continue  # its service manager's, or something is still there for the sweep


def own_name(state_dir: str) -> str:
    """The name of the own group of the daemon with this state directory."""
    return "sandboxd-" + sha256(state_dir.encode()).hexdigest()[:8]


def places(name: str) -> list[str]:
    """The directories that a daemon started from here would create for its group `name`, unless it
    had a delegated one."""
    mounts, own = cgroupfs.mounts(), cgroupfs.paths_of()
    v2 = [f"{mounts['']}/{name}"] if "" in mounts else []
    pairs = ((mounts.get(c), own.get(c)) for c in (*V1_CONTROLLERS, V1_CPUSET))
    return v2 + [f"{mount}{path.rstrip('/')}/{name}" for mount, path in pairs if mount and path]


def places_above(path: str) -> list[str]:
    """The directories above that of a run's group, which a daemon has made: that of its slot, if
    there is one, and that of all runs."""
    above = os.path.dirname(path)
    return [above, os.path.dirname(above)] if is_slot_group(above) else [above]


def is_slot_group(path: str) -> bool:
    """`path` is the directory of a slot's group."""
    return SLOT_GROUP.fullmatch(os.path.basename(path)) is not None


def _names(base: str) -> Iterator[str]:
    """The groups of slots and of runs at `base`, as paths below it."""
    for name in _directories(base):
        if name in _LEAVES:
            continue
        yield name
        if is_slot_group(name):
            yield from (f"{name}/{run}" for run in _directories(f"{base}/{name}"))


def _directories(path: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(path) if entry.is_dir()]
    except FileNotFoundError:
        return []


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # another run is there, or the group is not
        os.rmdir(path)


def _make(dirs: Mapping[str, str]) -> None:
    """Make the directories of a group, where they are not there yet."""
    for controller, path in dirs.items():
        make_directory(path)
        if controller == V1_CPUSET:
            _fill_cpuset(path)


def _fill_cpuset(directory: str) -> None:
    """Give the v1 group at `directory` the CPUs and memory of the group above it, unless the kernel
    has (cgroupfs.inherit_cpuset). A new group has none else, and no process can join it
    (cgroup-v1/cpusets.rst); the one above may be new, too."""
    above = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not procfs.read(f"{directory}/{name}").strip():
            if not procfs.read(f"{above}/{name}").strip():
                _fill_cpuset(above)
            procfs.write(f"{directory}/{name}", procfs.read(f"{above}/{name}"))


def _try_cpuset(path: str) -> dict[str, str]:
    """Make the group `path` of cpuset. An empty result where the host refuses it, as a container
    can: runs need no cpuset, and only a JVM misses its limits then."""
    try:
        _make({V1_CPUSET: path})
        cgroupfs.inherit_cpuset(path)
    except OSError as error:
        log.event("cgroup.no_cpuset", logging.WARNING, errno=error.errno)
        with contextlib.suppress(OSError):
            os.rmdir(path)
        return {}
    return {V1_CPUSET: path}


def _v1_shims(mounts: Mapping[str, str], delegated: str) -> str | None:
    """The delegated group in the hierarchy by which systemd tracks processes; None where this host
    has no such hierarchy."""
    if "name=systemd" not in mounts:
        return None
    for tree in ("", "name=systemd"):
        path = f"{mounts[tree]}/{delegated}" if tree in mounts else ""
        if path and os.path.isdir(path):
            return path
    raise StageError("cgroup", f"{path} is not there; start the service whose group it is")


def _v2_base(mount: str, name: str, delegated: str) -> str:
    """The group under which runs go, with its controllers handed down."""
    own = mount + cgroupfs.paths_of()[""].rstrip("/")
    if delegated:
        base = f"{mount}/{delegated}"
        _expect_delegated(base)
    elif own != mount and cgroupfs.members(own) == {os.getpid()}:
        base = own
    else:
        base = f"{mount}/{name}"
        os.makedirs(base, exist_ok=True)
        _hand_down(mount)
    _clear(base)
    _make_v2_base(base)
    return base


def _make_v2_base(base: str) -> None:
    """Make the group under which runs go, with that of the shims, and hand its controllers down."""
    os.makedirs(f"{base}/shims", exist_ok=True)
    _hand_down(base)


def _expect_delegated(path: str) -> None:
    if not os.path.isdir(path):
        raise StageError("cgroup", f"{path} is not there; start the service whose group it is")
    if not cgroupfs.is_delegated(path):
        raise StageError("cgroup", f"{path} is not delegated to us; its unit needs Delegate=yes")


def _clear(base: str) -> None:
    """Move the group's processes into a leaf, so that it may hand controllers down."""
    for pid in cgroupfs.members(base):
        os.makedirs(f"{base}/daemon", exist_ok=True)
        cgroupfs.move(f"{base}/daemon", pid)


def _hand_down(path: str) -> None:
    """Offer the controllers to the children of `path`; read back."""
    missing = sorted(set(V2_CONTROLLERS) - cgroupfs.hand_down(path, V2_CONTROLLERS))
    expect("cgroup", f"controllers not handed down by {path}", missing, [])
