"""Memory that a run hands to a session with the same workspace is not lost from sight."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterator

import pytest

from sandboxd.warden.runs.memory_handoff import HELD_S
from sandboxd.warden.slots.workspaces import FILE_SYSTEMS

from ..needs import elsewhere
from ..workspaces import USER, directory
from . import waiting_runs
from .conftest import passable
from .daemon import Daemon, run, running
from .test_memory_handoff import GIVE, KEEP, SIZE, groups, is_freed, passed_on, python
from .test_workspaces import body, configured
from .user_client import client_of


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with passable() as folder, running(folder, configured(folder)) as started:
        yield started


def test_session_with_the_same_workspace_that_keeps_the_memory_of_an_ended_one_is_ended(
    daemon: Daemon,
) -> None:
    checkout = directory(daemon.folder / "builds")
    with client_of(daemon.folder / "api.sock", USER) as user:
        answers = [user.post("/session", json=body(checkout)) for _ in range(2)]
        keeps, gives = (answer.json()["sessionId"] for answer in answers)
        call = {"mode": "batch", "code": "", "options": python(KEEP)}
        user.post(f"/session/{keeps}", json=call).raise_for_status()
        assert run(user, gives, python(GIVE)).exits[-1] == 0
        before = passed_on(daemon)
        assert user.delete(f"/session/{gives}").status_code == 200
        freed = is_freed(daemon, before)
        assert user.delete(f"/session/{keeps}").status_code == 200
    assert freed


def test_files_that_a_run_leaves_in_a_workspace_in_memory_end_no_other_run() -> None:
    """They are charged to the run that wrote them, as memory that another run holds is."""
    major, minor = re.findall(r"\d+", platform.release())[:2]
    if (int(major), int(minor)) < FILE_SYSTEMS["tmpfs"]:
        elsewhere("the kernel maps no owners of tmpfs")
    with passable() as folder:
        config, builds = configured(folder), str(folder / "builds")
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256m,mode=755", "-", builds], check=True
        )
        try:
            checkout = directory(folder / "builds")
            with running(folder, config) as daemon, client_of(folder / "api.sock", USER) as user:
                answers = [user.post("/session", json=body(checkout)) for _ in range(2)]
                other, leaves = (answer.json()["sessionId"] for answer in answers)
                waiting_runs.begin(user, other)
                assert run(user, leaves, {"exec": "head -c 64M /dev/zero > left"}).exits[-1] == 0
                assert next(groups(daemon)).memory_in_use() >= SIZE, "it is charged to the runs"
                # The rule would end the other run meanwhile.
                assert run(user, leaves, {"exec": f"sleep {HELD_S + 2}"}).exits[-1] == 0
                assert waiting_runs.end(user, other).text("stdout") == "lived\n"
                for id in (other, leaves):
                    user.delete(f"/session/{id}").raise_for_status()
        finally:
            subprocess.run(["umount", builds], check=True)
