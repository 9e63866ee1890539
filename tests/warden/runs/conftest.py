"""The fixtures of the tests of watches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from sandboxd.warden.runs import run_watch

from .watch_world import Clock, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    clock = Clock()
    monkeypatch.setattr(run_watch, "time", clock)
    with tempfile.TemporaryDirectory() as directory:
        world = World(f"{directory}/slots/7", clock)
        yield world
        world.close()
