"""The file system of a run: its mounts, and the places where a program can write."""

from __future__ import annotations

import os

import pytest

from sandboxd.jail import mounts
from sandboxd.jail.mounts import Bind
from sandboxd.jail.tree import Tree

from ..sandbox import Sandbox


def test_mount_not_in_the_plan_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = Tree.seal

    def sealed_with_another_mount(tree: Tree, paths: tuple[str, ...]) -> None:
        Bind("/root", "/root", mounts.WRITABLE).apply(tree.root)
        seal(tree, paths)

    monkeypatch.setattr(Tree, "seal", sealed_with_another_mount)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "mounts")
    assert "/root is not planned" in result.last["message"]


MOUNTS = {
    "/": ("tmpfs", "ro nosuid nodev size=1024k nr_inodes=4096"),
    "/usr": ("", "ro nosuid nodev"),
    "/dev": ("tmpfs", "ro nosuid noexec size=64k nr_inodes=64"),
    "/dev/pts": ("devpts", "nosuid noexec max=64"),
    "/dev/shm": ("tmpfs", "rw nosuid nodev nr_inodes=4096"),
    "/proc": ("proc", "ro nosuid nodev noexec hidepid=invisible"),
    "/home/work": ("ext4", "rw nosuid nodev"),
    "/tmp": ("ext4", "rw nosuid nodev"),
}
"""Point -> file system, and what is among its options; written out, not taken from the plan."""

MASKS = (
    "acpi bus diskstats driver fs interrupts iomem ioports irq kallsyms kcore key-users keys kmsg "
    "kpagecgroup kpagecount kpageflags modules pagetypeinfo sched_debug softirqs sysrq-trigger "
    "timer_list tty vmallocinfo zoneinfo"
)


def test_each_mount_has_the_options_that_bound_it(sandbox: Sandbox) -> None:
    mounts_seen = {}
    for line in sandbox.run("cat /proc/self/mountinfo").stdout.splitlines():
        left, right = line.split(" - ")
        point, options = left.split()[4:6]
        fstype, _, more = right.split()
        mounts_seen[point] = fstype, {*options.split(","), *more.split(",")}
    for point, (fstype, wanted) in MOUNTS.items():
        assert fstype in (mounts_seen[point][0], "")
        assert set(wanted.split()) <= mounts_seen[point][1], (point, mounts_seen[point])
    outside = os.statvfs(sandbox.slot.scratch).f_flag
    assert outside & os.ST_NOSUID and outside & os.ST_NODEV, "the scratch, as the warden has it"
    there = {f"/proc/{name}" for name in MASKS.split() if os.path.exists(f"/proc/{name}")}
    assert there <= mounts_seen.keys()


def test_workdir_that_a_step_has_closed_is_open_to_the_next_step(sandbox: Sandbox) -> None:
    shut = "echo text > f; chmod 0 /home/work"
    assert sandbox.run("cat f", build=shut, clean=shut).stdout == "text\n"


def test_work_and_tmp_live_as_long_as_the_session_and_shm_as_long_as_the_run(
    sandbox: Sandbox,
) -> None:
    sandbox.run("echo a > /home/work/f; echo b > /tmp/f; echo c > /dev/shm/f")
    result = sandbox.run("cat /home/work/f /tmp/f /dev/shm/f")
    assert result.stdout == "a\nb\n"


def test_scratch_is_full_at_its_size_and_can_be_used_after_a_removal(sandbox: Sandbox) -> None:
    result = sandbox.run("head -c 100M /dev/zero > big; stat -c %s big; rm big; echo ok > small")
    assert int(result.stdout.split()[0]) <= 64 << 20
    assert "No space left" in result.stderr
    assert result.exit == 0


MANY_TERMINALS = """
import os
held = []
try:
    while len(held) < 100:
        held.append(os.openpty()[0])
except OSError as error:
    print(error.strerror)
print(len(held))
"""
