"""Requests about runs: the warden believes nothing that the api sends, and a refused request leaves
nothing."""

from __future__ import annotations

import errno
import os
import uuid
from dataclasses import asdict
from typing import Any

import pytest

from sandboxd.config.settings import STEP_LIMITS, Config, RuntimeConfig
from sandboxd.errors import ConfigError, Invalid, StageError, Unavailable
from sandboxd.model import STEPS
from sandboxd.shim.run_spec import RunSpec
from sandboxd.warden.runs import run_directory, slot_group
from sandboxd.warden.runs.emptied_directories import EmptiedDirectories
from sandboxd.warden.runs.entries import Entries
from sandboxd.warden.runs.jail_entry import Shim
from sandboxd.warden.shared_resources import compile_filters

from ...descriptors import open_descriptors
from ...sandbox import Sandbox


def assert_nothing_is_left(sandbox: Sandbox) -> None:
    assert os.listdir(f"{sandbox.slot.path}/runs") == []
    assert sandbox.warden.resources.hierarchy.groups() == []
    assert sandbox.slot.runs == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": 63},
        {"slot": -1},
        {"session": str(uuid.uuid4())},
        {"session": None},
        {"run": "../../x"},
        {"steps": []},
        {"environ": {"A": 1}},
        {"terminal": True},
    ],
)
def test_malformed_start_is_refused_and_leaves_nothing(
    sandbox: Sandbox, changes: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        sandbox.start(**changes)
    assert_nothing_is_left(sandbox)


def test_start_in_a_slot_that_is_not_ready_or_being_released_is_refused(sandbox: Sandbox) -> None:
    sandbox.slot.ready = False
    with pytest.raises(Invalid, match="not leased"):
        sandbox.start()
    sandbox.slot.ready, sandbox.slot.releasing = True, True
    with pytest.raises(Unavailable, match="being released"):
        sandbox.start()
    sandbox.slot.releasing = False
    assert_nothing_is_left(sandbox)


def test_start_of_a_run_too_many_is_refused(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.warden.requests.run_requests.RUNS_MAX", 1)
    sandbox.run("true")
    with pytest.raises(Unavailable, match="at most"):
        sandbox.start(run=2)


@pytest.mark.parametrize("path", ["/", "/dev/null"])
def test_descriptor_that_leads_out_of_the_jail_is_refused_as_standard_input(
    sandbox: Sandbox, path: str
) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(Invalid, match="file type"):
            sandbox.start(fd)
    finally:
        os.close(fd)
    assert_nothing_is_left(sandbox)


def test_limits_above_the_ceiling_are_lowered_on_this_side_too(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[RunSpec] = []

    def record(_: Entries, spec: RunSpec, *others: object) -> Shim:
        specs.append(spec)
        return Shim(1)

    monkeypatch.setattr(Entries, "begin", record)
    limits = asdict(STEP_LIMITS) | {"pids": 10**9, "memory": 1 << 59}
    steps = [{"name": name, "command": "true", "limits": limits} for name in STEPS]
    _, fds = sandbox.start(steps=steps)
    for fd in fds:
        os.close(fd)
    sandbox.slot.runs.clear()
    sandbox.warden.resources.hierarchy.groups()[0].remove()
    ceiling, lowered = sandbox.warden.resources.config.ceiling, specs[0].steps[0].limits
    assert (lowered.pids, lowered.memory) == (ceiling.pids, ceiling.memory)


def test_run_that_cannot_start_is_undone(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise StageError("fork", "no more processes", 11)

    monkeypatch.setattr(Entries, "begin", refuse)
    before = open_descriptors()
    with pytest.raises(StageError):
        sandbox.start()
    assert_nothing_is_left(sandbox)
    assert open_descriptors() <= before


def test_run_that_cannot_be_bounded_has_no_share_in_its_slot_although_a_shim_is_warm(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StageError("cgroup of the slot", "Input/output error", errno.EIO)

    sandbox.warden.entries.warm_s = 60.0
    sandbox.run("true")
    assert sandbox._resting, "no shim is warm"
    with monkeypatch.context() as patch:
        patch.setattr(slot_group, "_bound", refuse)
        with pytest.raises(StageError, match="Input/output error"):
            sandbox.start(run=2)
    assert sandbox.slot.shares.keys() <= {1}


def test_forgotten_run_loses_its_directory_when_it_is_over(sandbox: Sandbox) -> None:
    for _ in range(3):
        sandbox.run("true")
    slot = sandbox.slot
    slot.runs[3] = 1  # as if it were not over
    sandbox.warden.request("forget", **sandbox.name, runs=[1, 3, 99])
    assert run_directory.numbers(slot.path) == [2, 3]
    EmptiedDirectories(sandbox.warden.jobs).ended(slot, 3)
    assert run_directory.numbers(slot.path) == [2]


def test_filter_that_no_runtime_may_have_stops_the_daemon_by_name() -> None:
    wrong = RuntimeConfig(seccomp_allow=("mount",))
    with pytest.raises(ConfigError, match=r"runtimes.zig.seccomp_\*: mount can never be allowed"):
        compile_filters(Config(runtimes={"zig": wrong}))
