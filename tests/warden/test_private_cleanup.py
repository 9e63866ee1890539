"""Cleanup after private daemons: the directory of a killed one is removed, and no other."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.config.settings import RESULTS_S
from sandboxd.warden import private_cleanup
from sandboxd.warden.runs.cgroups import Hierarchy, own_name

PREFIX = "sandboxd-"


def killed_daemon(where: Path) -> Path:
    """The directory of a private daemon that was killed."""
    folder = where / f"{PREFIX}abcdefgh"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "lock").touch()
    folder.chmod(0o711)
    make_old(folder)
    return folder


def make_old(folder: Path) -> None:
    os.utime(folder, (time.time() - 2 * private_cleanup.STALE_S,) * 2)


def _of_another(folder: Path) -> None:
    os.chown(folder, 65534, 65534)


def _open_to_others(folder: Path) -> None:
    folder.chmod(0o777)


def _young(folder: Path) -> None:
    os.utime(folder)


def _never_a_daemons(folder: Path) -> None:
    (folder / "state" / "lock").unlink()
    make_old(folder)


def _a_link(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def test_directory_of_a_killed_private_daemon_is_removed(tmp_path: Path) -> None:
    folder = killed_daemon(tmp_path)
    assert private_cleanup.clear_old(str(tmp_path), PREFIX) == [str(folder)]
    assert not folder.exists()


@pytest.mark.parametrize(
    "change", [_of_another, _open_to_others, _young, _never_a_daemons, _a_link]
)
def test_directory_that_may_be_of_another_program_stays(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = killed_daemon(tmp_path)
    change(folder)
    assert private_cleanup.clear_old(str(tmp_path), PREFIX) == []
    assert (folder / "state").is_dir()


def test_directory_with_results_stays_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = killed_daemon(tmp_path)
    private_cleanup.preserve(str(folder))
    make_old(folder)
    assert private_cleanup.clear_old(str(tmp_path), PREFIX) == []
    assert private_cleanup.clear(str(folder), 0) and (folder / "state").is_dir()
    day = time.time() + RESULTS_S
    monkeypatch.setattr(time, "time", lambda: day)
    assert private_cleanup.clear_old(str(tmp_path), PREFIX) == [str(folder)]
    assert not folder.exists()


def test_directory_with_results_goes_when_they_are_fetched(tmp_path: Path) -> None:
    folder = killed_daemon(tmp_path)
    private_cleanup.preserve(str(folder))
    private_cleanup.forget(str(folder))
    assert private_cleanup.clear(str(folder), 0) and not folder.exists()


def test_mark_of_another_user_preserves_nothing(tmp_path: Path) -> None:
    folder = killed_daemon(tmp_path)
    private_cleanup.preserve(str(folder))
    os.chown(folder / "preserved", 65534, 65534)
    assert not private_cleanup.is_preserved(str(folder))


@pytest.mark.parametrize("above", ["slot-3/", ""], ids=["of a slot", "of an earlier version"])
def test_groups_of_the_runs_of_a_killed_private_daemon_are_removed(
    tmp_path: Path, above: str
) -> None:
    folder = killed_daemon(tmp_path)
    hierarchy = Hierarchy.find(own_name(f"{folder}/state"))
    group = hierarchy.run_group(3, 1) if above else hierarchy.group("3.1")
    (path,) = {os.path.dirname(one) for one in group.dirs.values() if "memory" in one or group.v2}
    assert path.endswith(above.rstrip("/"))
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        for directory in group.dirs.values():
            Path(directory, "cgroup.procs").write_text(str(process.pid))
        assert private_cleanup.clear(str(folder), 0)
        assert process.wait() == -9
    assert not any(os.path.exists(base) for base in hierarchy.base.values())
