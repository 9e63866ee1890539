"""A path of [workspaces], and a directory of a user below it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..sandbox import BareWarden
from ..workspaces import directory, paths_of


@pytest.fixture
def root(warden: BareWarden) -> Iterator[Path]:
    """A path of [workspaces] that everybody can reach."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        with paths_of(warden, Path(name)):
            yield Path(name)


@pytest.fixture
def checkout(root: Path) -> Path:
    return directory(root)
