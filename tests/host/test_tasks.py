"""The bounds of a host on tasks: of the kernel, of cgroups, and the share that runs may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.config.settings import Config
from sandboxd.host import cgroup_places, procfs, tasks
from sandboxd.host.tasks import HostTasks, TaskBound, TaskMeter
from sandboxd.model import STEPS
from sandboxd.warden.host_limits import within_host

KERNEL = {
    "/proc/loadavg": "0.00 0.01 0.05 1/150 4567\n",
    "/proc/sys/kernel/pid_max": "9000\n",
    "/proc/sys/kernel/threads-max": "12000\n",
}


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files of a kernel, which a test may change."""
    files = dict(KERNEL)
    monkeypatch.setattr(procfs, "text", lambda path: files.get(path, ""))
    return files


def group(path: Path, most: str, current: int) -> str:
    path.mkdir(exist_ok=True)
    (path / "pids.max").write_text(f"{most}\n")
    (path / "pids.current").write_text(f"{current}\n")
    return str(path)


def test_kernel_bounds_all_tasks_of_the_host() -> None:
    tasks = TaskMeter().measure()
    assert tasks.bounds == (
        TaskBound("kernel.pid_max", 9000, 150), TaskBound("kernel.threads-max", 12000, 150),
    )  # fmt: skip
    assert (tasks.most, tasks.free) == (9000, 8850)
    assert tasks.tightest.name == "kernel.pid_max"


def test_threads_max_is_the_bound_where_it_is_lower(kernel: dict[str, str]) -> None:
    kernel["/proc/sys/kernel/threads-max"] = "2000"
    assert TaskMeter().measure().free == 1850


def test_group_of_the_daemon_is_the_bound_where_it_is_lower(tmp_path: Path) -> None:
    own = group(tmp_path / "own", "500", 40)
    tasks = TaskMeter([own]).measure()
    assert tasks.tightest == TaskBound(f"{own}/pids.max", 500, 40)
    assert (tasks.most, tasks.free) == (500, 460)


def test_tasks_of_runs_do_not_count_as_those_of_others(tmp_path: Path) -> None:
    own = group(tmp_path / "own", "500", 140)
    apart = group(tmp_path / "apart", "700", 30)
    runs = group(tmp_path / "own" / "runs", "max", 100)
    meter = TaskMeter([own, apart], runs)
    assert [bound.others for bound in meter.measure().bounds] == [50, 50, 40, 30]
    group(tmp_path / "own" / "runs", "max", 20)
    assert [bound.others for bound in meter.measure().bounds] == [130, 130, 120, 30]
    meter.close()


def test_group_without_a_bound_is_none(tmp_path: Path) -> None:
    assert len(TaskMeter([group(tmp_path / "own", "max", 40)]).measure().bounds) == 2


def test_group_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert len(TaskMeter([str(tmp_path / "gone")], str(tmp_path / "runs")).measure().bounds) == 2


def test_host_that_shows_nothing_bounds_nothing(kernel: dict[str, str]) -> None:
    kernel.clear()
    assert TaskMeter().measure().free == tasks.NO_BOUND


def test_more_tasks_than_the_bound_leave_none(tmp_path: Path) -> None:
    assert TaskMeter([group(tmp_path / "own", "50", 90)]).measure().free == 0


@pytest.mark.parametrize(
    ("points", "own", "delegated", "groups"),
    [
        ({"pids": "v1"}, {"pids": "/a/b"}, "", ["v1/a/b", "v1/a", "v1"]),
        ({"": "v2"}, {"": "/a"}, "slice/runs", ["v2/a", "v2", "v2/slice/runs", "v2/slice"]),
        ({"": "v2"}, {"": "/../x"}, "", ["v2"]),
        ({"pids": "v1", "": "v2"}, {"pids": "/a", "": "/z"}, "", ["v1/a", "v1"]),
        ({}, {}, "", []),
    ],
)
def test_groups_are_those_of_the_daemon_and_of_its_runs_and_all_above(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    points: dict[str, str],
    own: dict[str, str],
    delegated: str,
    groups: list[str],
) -> None:
    for path in groups:
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        (tmp_path / path / "pids.current").touch()
    mounts = {controller: f"{tmp_path}/{name}" for controller, name in points.items()}
    monkeypatch.setattr(cgroup_places, "mounts", lambda: mounts)
    monkeypatch.setattr(cgroup_places, "paths_of", lambda: own)
    assert tasks.task_groups(delegated) == [f"{tmp_path}/{path}" for path in groups]


def bounded(most: int) -> HostTasks:
    return HostTasks((TaskBound("kernel.pid_max", most, 0),))


def test_default_of_tasks_is_lowered_to_what_a_small_host_can_promise() -> None:
    config = within_host(Config(), bounded(200))
    assert {getattr(config.limits, step).pids for step in STEPS} == {158}
    assert config.ceiling.pids == Config().ceiling.pids, "who asks for more is refused"


def test_defaults_stay_as_they_are_on_a_host_with_room() -> None:
    assert within_host(Config(), bounded(32768)).limits == Config().limits
