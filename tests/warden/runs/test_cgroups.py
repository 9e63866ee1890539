"""The place of the cgroups of runs and of their shims, by the hierarchies of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxd.errors import StageError
from sandboxd.host import cgroup_places
from sandboxd.host.cgroupfs import V1_CONTROLLERS
from sandboxd.warden.runs.cgroups import Hierarchy

DELEGATED = "system.slice/runs.service"


@pytest.fixture
def v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with the v1 controllers, systemd's own hierarchy, and a v2 one without controllers."""
    trees = {name: str(tmp_path / name) for name in (*V1_CONTROLLERS, "name=systemd")}
    trees[""] = str(tmp_path / "unified")
    for tree in trees.values():
        Path(tree).mkdir()
    Path(trees[""], "cgroup.controllers").write_text("")
    monkeypatch.setattr(cgroup_places, "mounts", lambda: trees)
    monkeypatch.setattr(cgroup_places, "paths_of", lambda: dict.fromkeys(trees, "/"))
    return tmp_path


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        (["unified", "name=systemd"], "unified"),
        (["name=systemd"], "name=systemd"),
    ],
    ids=["hybrid", "v1 alone"],
)
def test_shims_move_where_systemd_looks_for_them(v1: Path, known: list[str], wanted: str) -> None:
    for tree in known:
        (v1 / tree / DELEGATED).mkdir(parents=True)
    shims = Hierarchy.find("sandboxd-test", DELEGATED).shims
    assert shims == f"{v1}/{wanted}/{DELEGATED}"


def test_delegated_group_that_systemd_does_not_have_is_refused(v1: Path) -> None:
    with pytest.raises(StageError, match=r"runs\.service is not there; start the service"):
        Hierarchy.find("sandboxd-test", DELEGATED)


@pytest.mark.parametrize("files", [[], ["cpuset.cpus", "cpuset.mems"]], ids=["refused", "there"])
def test_daemon_starts_also_where_it_can_have_no_cpuset(
    v1: Path, monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    trees = cgroup_places.mounts() | {"cpuset": str(v1 / "cpuset")}
    monkeypatch.setattr(cgroup_places, "mounts", lambda: trees)
    monkeypatch.setattr(cgroup_places, "paths_of", lambda: dict.fromkeys(trees, "/"))
    own = v1 / "cpuset/sandboxd-test"
    own.parent.mkdir()
    if files:
        own.mkdir()
    for name in files:
        (own.parent / name).write_text("0-1\n")
        (own / name).write_text("\n")
    assert ("cpuset" in Hierarchy.find("sandboxd-test").base) == bool(files)
    assert own.exists() == bool(files)
    assert all((own / name).read_text() == "0-1\n" for name in files)
    assert not files or (own / "cgroup.clone_children").read_text() == "1"


def test_shims_stay_where_no_group_is_delegated(v1: Path) -> None:
    assert Hierarchy.find("sandboxd-test").shims is None


def test_run_can_be_started_although_the_group_of_the_daemon_was_removed() -> None:
    """Another user of the same group can do so while it is empty."""
    groups = Hierarchy.find(f"sandboxd-test-again-{os.getpid()}")
    groups.remove()
    group = groups.run_group(0, 1)
    try:
        child = os.fork()
        if child == 0:
            group.join()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        assert group.remove()
        groups.remove()
