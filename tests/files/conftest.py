"""A fresh scratch for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.files import placement

from .placing import Placing
from .scratch import Scratch


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path)


@pytest.fixture
def placing(tmp_path: Path) -> Placing:
    return Placing(tmp_path)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the tests is that of everything else, and slow."""
    monkeypatch.setattr(placement, "sync_file_system", lambda fd: None)
