"""The spawner's plan of the root: fresh, and without anything that is of one run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.host import mountinfo
from sandboxd.host.mountinfo import MountInfo
from sandboxd.jail import rootfs, syscalls
from sandboxd.jail.enter import Jail
from sandboxd.jail.mounts import FileMount, Mask
from sandboxd.jail.overlays import HostView
from sandboxd.warden.runs.spawner import SpawnerSpec, _planned, unmount_below

JAIL = Jail("/nowhere", ("/usr",), HostView("/nowhere"), (), {}, {})


def masks(jail: Jail) -> set[str]:
    """The places of /proc that the plan of a jail hides."""
    assert jail.plan
    return {part.path for part in rootfs.system(jail.plan) if isinstance(part, Mask)}


def test_plan_is_used_again_while_it_is_fresh() -> None:
    first = _planned(JAIL)
    assert first.plan and _planned(first).plan is first.plan


def test_file_that_the_kernel_has_got_is_masked_as_soon_as_the_plan_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = _planned(JAIL)
    monkeypatch.setattr(rootfs, "MASKED", (*rootfs.MASKED, "version"))
    assert "/proc/version" not in masks(_planned(before))
    assert before.plan
    old = replace(before.plan, moment=before.plan.moment - rootfs.PLAN_S)
    assert "/proc/version" in masks(_planned(replace(before, plan=old)))


def test_two_entries_of_one_plan_have_boot_ids_of_their_own() -> None:
    plan = _planned(JAIL).plan
    assert plan
    texts = [
        [part.text for part in rootfs.system(plan)
         if isinstance(part, FileMount) and part.path == rootfs.BOOT_ID]
        for _ in range(2)
    ]  # fmt: skip
    assert [len(each) for each in texts] == [1, 1] and texts[0] != texts[1]


def test_host_that_cannot_be_looked_at_leaves_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr("sandboxd.host.procfs.read", fail)
    assert _planned(JAIL).plan is None


def test_plan_of_one_spawner_is_no_reason_for_another_one() -> None:
    assert SpawnerSpec(JAIL, ()) == SpawnerSpec(_planned(JAIL), ())


def show_mounts(monkeypatch: pytest.MonkeyPatch, *points: str) -> None:
    """Let these be the mounts of this process."""
    mounts = [MountInfo("1", "0:1", point, [], [], "tmpfs", "") for point in points]
    monkeypatch.setattr(mountinfo, "read", lambda: iter(mounts))


def test_scratch_that_is_removed_while_a_spawner_starts_does_not_end_the_spawner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session has ended: the directory is gone, or the mount at it."""
    (tmp_path / "1").mkdir()
    show_mounts(monkeypatch, *(f"{tmp_path}/{number}" for number in (1, 2)))
    unmount_below((str(tmp_path),))


def test_scratch_that_stays_mounted_ends_the_spawner(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry would see the files of a session."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    show_mounts(monkeypatch, "/proc")
    monkeypatch.setattr(syscalls, "umount2", refuse)
    with pytest.raises(OSError):
        unmount_below(("",))


def test_spawner_loads_no_module_that_has_something_to_do_after_each_fork() -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import sandboxd.warden.runs.spawner; "
        "print(*sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "sandboxd.shim.main" in modules
    assert not {"logging", "threading", "sandboxd.log"}.intersection(modules)
