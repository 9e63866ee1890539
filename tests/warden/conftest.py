"""The fixtures of the tests of files in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.host.tmpfs import is_in_memory
from sandboxd.warden import runtime_directory

MEMORY = "/dev/shm"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A /run in memory."""
    assert is_in_memory(MEMORY)
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        monkeypatch.setattr(runtime_directory, "RUNTIME", directory)
        yield Path(directory)


@pytest.fixture
def run(tmp_path: Path) -> str:
    """The place of run 3 of slot 5."""
    (tmp_path / "slots/5/runs").mkdir(parents=True)
    return str(tmp_path / "slots/5/runs/3")
