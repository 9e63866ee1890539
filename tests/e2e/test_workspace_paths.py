"""Paths of workspaces that no file can have: the request is refused, and the daemon goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from ..workspaces import USER
from .conftest import passable
from .daemon import SLOTS, Daemon, running
from .user_client import client_of


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with (
        passable() as folder,
        running(folder, f'[workspaces]\npaths = ["{folder}"]\n{SLOTS}') as one,
    ):
        yield one


@pytest.fixture
def user(daemon: Daemon) -> Iterator[httpx.Client]:
    with client_of(daemon.folder / "api.sock", USER) as client:
        yield client


@pytest.mark.parametrize("name", ["\ud800", "\udcff", "a\ud800\udc00\ud800", "x/" * 3000], ids=len)
def test_path_that_no_file_can_have_is_refused_and_ends_no_daemon(
    daemon: Daemon, user: httpx.Client, name: str
) -> None:
    workspace = f"{daemon.folder}/builds/{name}"
    content = json.dumps({"image": "shell", "config": {"workspace": workspace}}).encode()
    answer = user.post("/session", content=content)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()["data"]) == ["config.workspace"]
    assert user.get("/").status_code == 200
