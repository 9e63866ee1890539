"""Fixtures of the tests of runtimes: a host whose files a test chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from .tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A host without any file."""
    return Tree(tmp_path)
