"""The end of what no session has adopted: runs that begin meanwhile are not touched."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from sandboxd.jail.cgroup import PERIOD_US, Group
from sandboxd.warden import cursor_files, memory_files, runtime_directory
from sandboxd.warden.requests import adoption, provisioning
from sandboxd.warden.requests.adoption import remove_unknown
from sandboxd.warden.runs.cpu_hold import HELD_US, CpuHolds
from sandboxd.warden.runs.worker import Worker

from ...sandbox import BareWarden, Sandbox, restarted


def test_run_that_begins_while_unknown_runs_are_ended_can_make_processes(
    warden: BareWarden, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group of its slot was there, without runs, when the end of the unknown ones began."""
    sandbox.run("true")
    groups = warden.resources.hierarchy.slot_dirs(sandbox.slot.number)
    assert all(os.path.isdir(path) for path in groups.values())
    work = remove_unknown(warden.resources, warden.workers.all())

    def end_unknown(_: Worker) -> None:
        work()

    result = sandbox.run("read -r line; (echo forked)", on_wait=end_unknown, answers=["go\n"])
    assert result.stdout == "forked\n"


def test_cursor_of_a_run_that_begins_while_unknown_slots_are_removed_stays(
    warden: BareWarden, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{warden.resources.config.state_dir}/slots/63/runs/1"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as runtime:
        monkeypatch.setattr(runtime_directory, "RUNTIME", runtime)
        os.makedirs(path)
        begin(path)
        work = remove_unknown(warden.resources, warden.workers.all())
        memory = memory_files.path_of(path)
        assert memory and not os.path.exists(memory)
        begin(path)  # as in a session that has just got the slot
        assert work() == [os.path.dirname(os.path.dirname(path))]
        assert os.path.exists(memory)


def test_slot_with_a_process_that_no_signal_ends_does_not_keep_the_daemon_from_its_start(
    warden: BareWarden, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = f"{warden.resources.config.state_dir}/slots"
    for name in ("62", "63"):
        os.mkdir(f"{slots}/{name}")
    group = warden.resources.hierarchy.run_group(63, 1)
    monkeypatch.setattr(adoption, "GROUPS_S", 0.1)
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        for directory in group.dirs.values():
            Path(directory, "cgroup.procs").write_text(str(process.pid))
        with monkeypatch.context() as without:
            without.setattr(Group, "kill", lambda _: None)
            assert remove_unknown(warden.resources, [])() == [f"{slots}/62"]
        assert process.poll() is None and 63 in provisioning.busy(warden.resources)
        assert remove_unknown(warden.resources, [])() == [f"{slots}/63"]
    warden.resources.hierarchy.remove_idle()
    assert warden.resources.groups() == {}


def begin(path: str) -> None:
    fd = cursor_files.begin(path)
    assert fd is not None
    os.close(fd)


def test_run_that_a_killed_daemon_has_held_has_its_cpu_time_under_the_next_one(
    warden: BareWarden, sandbox: Sandbox
) -> None:
    quotas: list[int] = []

    def restart(shim: Worker) -> None:
        assert shim.group
        CpuHolds().begin(shim.group)
        quotas.append(shim.group.files.cpu_quota_us())
        sandbox.slot, shims = restarted(sandbox.slot, warden, runs=[sandbox.runs])
        for one in shims:
            assert one.group and one.pidfd is not None
            quotas.append(one.group.files.cpu_quota_us())
            os.close(one.pidfd)

    sandbox.run("read -r line", on_wait=restart, answers=["go\n"], cpus=1)
    assert quotas == [HELD_US, PERIOD_US]
