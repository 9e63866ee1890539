"""Workspaces that the host changes between two runs of a session that is not at rest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ..workspaces import USER, directory
from .daemon import run, running
from .test_workspaces import body, configured
from .user_client import client_of
from .waiting_jails import WARM

Begin = Callable[[Path], tuple[httpx.Client, str]]


@pytest.fixture
def begin(folder: Path) -> Iterator[Begin]:
    """Starts a daemon whose jails stay, and a session that has had a run in its workspace."""
    with contextlib.ExitStack() as stack:

        def begun(path: Path) -> tuple[httpx.Client, str]:
            user = stack.enter_context(client_of(folder / "api.sock", USER))
            id = user.post("/session", json=body(path)).json()["sessionId"]
            stack.callback(user.delete, f"/session/{id}")
            assert run(user, id, {"exec": "echo first > f"}).exits[-1] == 0
            return user, id

        stack.enter_context(running(folder, configured(folder) + WARM))
        yield begun


def test_run_after_the_directory_was_replaced_works_in_the_new_one(
    folder: Path, begin: Begin
) -> None:
    """A CI system makes a new checkout between two steps."""
    path = directory(folder / "builds")
    user, id = begin(path)
    path.rename(folder / "builds/old")
    path = directory(folder / "builds")
    assert run(user, id, {"exec": "ls; echo second > g"}).text("stdout") == ""
    assert (path / "g").read_text() == "second\n"
    assert not (folder / "builds/old/g").exists()


@pytest.mark.parametrize("change", ["moved", "of another user"])
def test_run_after_the_directory_was_taken_away_is_refused(
    folder: Path, begin: Begin, change: str
) -> None:
    path = directory(folder / "builds")
    user, id = begin(path)
    if change == "moved":
        path = path.rename(folder / "builds/old")
    else:
        path.chmod(0o777)
        os.chown(path, 0, 0)
    call = {"mode": "batch", "code": "", "options": {"exec": "echo second > g", "wait": 30}}
    answer = user.post(f"/session/{id}", json=call)
    assert (answer.status_code, "the workspace cannot be used" in answer.text) == (503, True)
    assert not (path / "g").exists()
