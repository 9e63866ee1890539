"""The end of what no session has adopted: runs that begin meanwhile are not touched."""

from __future__ import annotations

import os

import pytest

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
