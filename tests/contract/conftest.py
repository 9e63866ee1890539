"""The hosts of the contract tests, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .hosts import Host, fake_host, real_host


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.root)])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """The fake host and the real one, one after the other."""
    with fake_host() if request.param == "fake" else real_host() as host:
        yield host


@pytest.fixture
def session(host: Host) -> Iterator[str]:
    """The UUID of a session."""
    id = host.http.post("/session", json={"image": "c"}).json()["sessionId"]
    yield id
    host.http.delete(f"/session/{id}")
