"""A database for each test, and its path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.store.database import Database


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sandboxd.sqlite")


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()
