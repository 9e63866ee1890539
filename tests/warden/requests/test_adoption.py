"""The end of what no session has adopted: runs that begin meanwhile are not touched."""

from __future__ import annotations

import os
import tempfile

import pytest

from sandboxd.warden import cursor_files, runtime_directory
from sandboxd.warden.requests.adoption import remove_unknown
from sandboxd.warden.runs.worker import Worker

from ...sandbox import BareWarden, Sandbox


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
        memory = cursor_files._memory(path)
        assert memory and not os.path.exists(memory)
        begin(path)  # as in a session that has just got the slot
        assert work() == [os.path.dirname(os.path.dirname(path))]
        assert os.path.exists(memory)


def begin(path: str) -> None:
    fd = cursor_files.begin(path)
    assert fd is not None
    os.close(fd)
