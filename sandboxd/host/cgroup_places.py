"""The places of cgroups: the mount points of their trees, and the groups of a process."""

from __future__ import annotations

from . import mountinfo, procfs


def mounts() -> dict[str, str]:
    """Controller (v2: "") -> mount point. Raises OSError."""
    points: dict[str, str] = {}
    for mount in mountinfo.read():
        if mount.fstype == "cgroup2":
            points.setdefault("", mount.point)
        elif mount.fstype == "cgroup":
            for option in mount.settings.split(","):
                points.setdefault(option, mount.point)
    return points


def paths_of(pid: int | str = "self") -> dict[str, str]:
    """Controller -> path of the process's group below the mount point, from /proc/PID/cgroup
    (cgroups(7)). Raises OSError."""
    paths = {}
    for line in procfs.read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    return paths
