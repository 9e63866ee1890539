"""The warden believes nothing that the api sends, and a refused request leaves nothing."""

from __future__ import annotations

import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sandboxd import wire
from sandboxd.config import STEP_LIMITS, Config, RuntimeConfig
from sandboxd.errors import ConfigError, Invalid, StageError
from sandboxd.jail import mounts, syscalls
from sandboxd.model import MIB, STEPS
from sandboxd.shim.run_spec import RunSpec
from sandboxd.warden import arguments
from sandboxd.warden.arguments import COMMANDS_MAX
from sandboxd.warden.loop import _refusal
from sandboxd.warden.requests import Requests, _filters
from sandboxd.warden.runs import launcher

from ..sandbox import Sandbox, lease, restarted


def start(sandbox: Sandbox, **changes: Any) -> dict[str, Any]:
    limits = asdict(STEP_LIMITS)
    steps = [{"name": name, "command": "true", "limits": limits} for name in STEPS]
    slot = sandbox.slot
    request = {"slot": slot.number, "session": slot.session, "run": 1, "steps": steps}
    request["environ"] = {}
    return request | changes


def step(command: Any = "true", **limits: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "command": command, "limits": asdict(STEP_LIMITS) | limits} for name in STEPS
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": 63},
        {"slot": -1},
        {"slot": "0"},
        {"slot": True},
        {"slot": None},
        {"session": str(uuid.uuid4())},
        {"session": None},
        {"run": 0},
        {"run": 1.5},
        {"run": "../../x"},
        {"steps": None},
        {"steps": []},
        {"steps": step()[::-1]},
        {"steps": step(command=7)},
        {"steps": step(command="a\0b")},
        {"steps": step(wall_s=0)},
        {"steps": step(memory=-1)},
        {"steps": step(pids="many")},
        {"steps": step(cpus=float("nan"))},
        {"steps": step(wall_s=1 << 70)},
        {"environ": None},
        {"environ": {"A": 1}},
        {"environ": {"A=B": "x"}},
        {"environ": {"": "x"}},
        {"environ": {"A": "x\0y"}},
        {"environ": {"A": "x" * COMMANDS_MAX}},
        {"environ": {"A": "\ud800"}},
        {"steps": step(command="\ud800")},
    ],
)
def test_malformed_start_is_refused_and_leaves_nothing(
    sandbox: Sandbox, changes: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        sandbox.requests.start(start(sandbox, **changes), None)
    assert os.listdir(f"{sandbox.slot.path}/runs") == []
    assert sandbox.requests.hierarchy.groups() == []


@pytest.mark.parametrize("path", ["/", "/dev/null"])
def test_door_out_of_the_jail_cannot_be_handed_in_as_standard_input(
    sandbox: Sandbox, path: str
) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(Invalid, match="regular file"):
            sandbox.requests.start(start(sandbox), fd)
    finally:
        os.close(fd)
    assert os.listdir(f"{sandbox.slot.path}/runs") == []


def test_refusal_that_quotes_what_was_asked_for_fits_a_packet() -> None:
    """Else one request of a compromised api would end the warden."""
    with pytest.raises(Invalid) as refused:
        arguments.integer({"size": "\x01" * (wire.PACKET - 100)}, "size", 1, 2)
    wire.encode(_refusal(refused.value))


@pytest.mark.parametrize(
    "request_",
    [
        {"session": "no-uuid", "size": 64 * MIB, "inodes": 4096},
        {"session": None, "size": 64 * MIB, "inodes": 4096},
        {"session": str(uuid.uuid4()), "size": 1, "inodes": 4096},
        {"session": str(uuid.uuid4()), "size": 64 * MIB, "inodes": "x"},
    ],
)
def test_malformed_lease_is_refused(requests: Requests, request_: dict[str, Any]) -> None:
    before = dict(requests.slots.leased)
    with pytest.raises(Invalid):
        requests.lease(request_)
    assert requests.slots.leased == before


def test_limits_above_the_ceiling_are_lowered_on_this_side_too(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RunSpec] = []

    def note(order: RunSpec) -> int:
        seen.append(order)
        return 1

    monkeypatch.setattr(launcher, "start_shim", note)
    _, fds = sandbox.requests.start(start(sandbox, steps=step(pids=10**9, memory=1 << 59)), None)
    for fd in fds:
        os.close(fd)
    sandbox.slot.runs.clear()
    sandbox.requests.hierarchy.groups()[0].remove()
    ceiling = sandbox.requests.config.ceiling
    assert (seen[0].steps[0].limits.pids, seen[0].steps[0].limits.memory) == (
        ceiling.pids,
        ceiling.memory,
    )


def test_run_that_cannot_start_is_undone(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(order: object) -> int:
        raise StageError("fork", "no more processes", 11)

    monkeypatch.setattr(launcher, "start_shim", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StageError):
        sandbox.requests.start(start(sandbox), None)
    assert os.listdir(f"{sandbox.slot.path}/runs") == []
    assert sandbox.requests.hierarchy.groups() == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_scratch_that_cannot_be_made_gives_the_slot_back(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(syscalls, "mount", refuse)
    before = dict(requests.slots.leased)
    with pytest.raises(StageError, match="scratch"):
        lease(requests)
    assert requests.slots.leased == before


def test_released_slot_leaves_no_mount_no_loop_device_and_no_file(requests: Requests) -> None:
    made = lease(requests)
    made.run("echo x > f")
    image = f"{made.slot.path}/image"
    assert any(image in text for text in backing_files())
    requests.free(made.slot)
    assert not os.path.exists(made.slot.path)
    assert made.slot.path not in Path("/proc/self/mounts").read_text()
    assert not any(image in text for text in backing_files())


def backing_files() -> list[str]:
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.append(path.read_text())
        except OSError:
            continue
    return found


def test_adopted_session_has_its_files(requests: Requests) -> None:
    made = lease(requests)
    made.run("echo kept > f")
    made.slot, _ = again, _ = restarted(made.slot, requests)
    assert made.run("cat f").stdout == "kept\n"
    requests.free(again)


def test_image_that_is_still_attached_is_not_attached_twice(requests: Requests) -> None:
    """Two loop devices on one image would ruin its file system."""
    made = lease(requests)
    slot = made.slot
    shim = mounts.clone(slot.scratch)  # what a run that outlives its warden keeps
    again, _ = restarted(slot, requests)
    image = f"{slot.path}/image"
    assert sum(image in text for text in backing_files()) == 1
    os.close(shim)
    requests.free(again)


def test_finished_runs_are_removed_when_they_are_forgotten(sandbox: Sandbox) -> None:
    for _ in range(3):
        sandbox.run("true")
    slot = sandbox.slot
    slot.runs[3] = 1  # as if it were not over
    order = {"slot": slot.number, "session": slot.session, "runs": [1, 3, 99]}
    sandbox.requests.forget(order)
    assert sorted(os.listdir(f"{slot.path}/runs")) == ["2", "3"]
    sandbox.requests.ended(slot, 3)
    assert os.listdir(f"{slot.path}/runs") == ["2"]


def test_a_filter_that_no_runtime_may_have_stops_the_daemon_by_name() -> None:
    wrong = RuntimeConfig(seccomp_allow=("mount",))
    with pytest.raises(ConfigError, match=r"runtimes.zig.seccomp_\*: mount can never be allowed"):
        _filters(Config(runtimes={"zig": wrong}))
