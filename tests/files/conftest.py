"""A fresh scratch for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.files import commit

from .ready_tree import ReadyTree
from .scratch import Scratch


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path)


@pytest.fixture
def ready(tmp_path: Path) -> ReadyTree:
    return ReadyTree(tmp_path)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the tests is that of everything else, and slow."""
    monkeypatch.setattr(commit, "sync_file_system", lambda fd: None)
