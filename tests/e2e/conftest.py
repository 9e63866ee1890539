"""One daemon for all end-to-end tests that do not stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from .daemon import Daemon, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    for path in (folder, *folder.parents):  # pytest's own directories are closed to others
        if "pytest-" in path.name:
            path.chmod(0o711)
    with running(folder) as made:
        yield made


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with daemon.client() as client:
        yield client


@pytest.fixture
def session(http: httpx.Client) -> Iterator[Callable[..., str]]:
    """Makes sessions that are deleted after the test."""
    made: list[str] = []

    def make(image: str = "c", **config: Any) -> str:
        answer = http.post("/session", json={"image": image, "config": config})
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["sessionId"])
        return made[-1]

    yield make
    for id in made:
        assert http.delete(f"/session/{id}").status_code in (200, 404)
