"""Memory that a run hands to a session with the same workspace is not lost from sight."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..workspaces import USER, directory
from .conftest import passable
from .daemon import Daemon, run, running
from .test_memory_handoff import GIVE, KEEP, is_freed, passed_on, python
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
