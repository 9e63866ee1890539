"""The fixtures of the tests of virtual folders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .calls import Make, Session


@pytest.fixture
def make(http: httpx.Client) -> Iterator[Make]:
    """Makes folders that are removed after the test, and after its sessions."""
    ids: list[str] = []

    def make(name: str = "data", **fields: Any) -> str:
        body = {"name": name, "host": "local", "quota": "32m"} | fields
        answer = http.post("/folders", json=body)
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
        return ids[-1]

    yield make
    for id in ids:
        assert http.delete(f"/folders/{id}").status_code in (204, 404)


@pytest.fixture
def session(make: Make, session: Session) -> Session:
    """The common fixture, ended before `make`'s."""
    return session
