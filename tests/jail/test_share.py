"""The parts of /sys and the variables by which programs size themselves."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.jail import rootfs
from sandboxd.jail.mounts import NOEXEC, READ_ONLY, Bind, Directory, File, FileMount, Link
from sandboxd.shim import environment


def test_v2_group_is_one_read_only_mount() -> None:
    bind = Bind("/sys/fs/cgroup", "/host/base/3.1", READ_ONLY | NOEXEC)
    assert rootfs.cgroups({"": "/host/base/3.1"}) == [bind]


def test_v1_groups_are_those_that_a_jvm_reads() -> None:
    dirs = {name: f"/host/{name}/3.1" for name in ("memory", "pids", "cpu", "cpuacct", "cpuset")}
    parts = rootfs.cgroups(dirs)
    assert [part.path for part in parts] == [
        "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu",
        "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpuset",
    ]  # fmt: skip
    assert all(p.attributes == READ_ONLY | NOEXEC for p in parts if isinstance(p, Bind))


def test_v1_controllers_of_one_hierarchy_are_mounted_once() -> None:
    dirs = {"cpu": "/host/cpu,cpuacct/3.1", "cpuacct": "/host/cpu,cpuacct/3.1"}
    assert rootfs.cgroups(dirs) == [
        Directory("/sys/fs/cgroup"),
        Bind("/sys/fs/cgroup/cpu,cpuacct", "/host/cpu,cpuacct/3.1", READ_ONLY | NOEXEC),
        Link("/sys/fs/cgroup/cpu", "cpu,cpuacct"),
        Link("/sys/fs/cgroup/cpuacct", "cpu,cpuacct"),
    ]


@pytest.mark.parametrize(
    ("cpus", "host", "count"), [(0.1, 4, 1), (1.0, 4, 1), (1.5, 4, 2), (4.0, 4, 4), (9.0, 4, 4)]
)
def test_share_of_cpus_is_rounded_up(
    monkeypatch: pytest.MonkeyPatch, cpus: float, host: int, count: int
) -> None:
    monkeypatch.setattr(rootfs, "HOST_CPUS", host)
    parts = rootfs.cpus(cpus)
    files = {part.path: part.text for part in parts if isinstance(part, File | FileMount)}
    numbers = f"0-{count - 1}\n" if count > 1 else "0\n"
    assert files["/sys/devices/system/cpu/online"] == numbers
    assert files["/sys/devices/system/cpu/present"] == numbers
    assert sum(isinstance(part, Directory) for part in parts) == 1 + count
    shown = files["/proc/cpuinfo"].count("processor\t")
    assert shown == min(count, os.sysconf("SC_NPROCESSORS_ONLN"))
    variables = environment.of_limits(replace(STEP_LIMITS, cpus=cpus))
    assert variables["GOMAXPROCS"] == variables["OMP_NUM_THREADS"] == str(count)


def test_heap_of_node_leaves_memory_for_the_rest_of_node() -> None:
    heaps = {
        size: environment.of_limits(replace(STEP_LIMITS, memory=size << 20)).get("NODE_OPTIONS")
        for size in (32, 256, 304)
    }
    assert heaps == {32: "--max-old-space-size=8", 256: "--max-old-space-size=208", 304: None}


def test_heap_of_go_is_a_part_of_the_memory() -> None:
    variables = environment.of_limits(replace(STEP_LIMITS, memory=1000))
    assert variables["GOMEMLIMIT"] == "900"
