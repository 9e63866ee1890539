"""The reader of /proc: how much of a file it has in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from sandboxd.host import procfs


def test_beginning_of_a_large_file_has_its_size_and_not_its_memory(tmp_path: Path) -> None:
    path = tmp_path / "fdinfo"
    path.write_bytes(b"lock:" * 1_000_000)
    tracemalloc.start()
    try:
        assert procfs.beginning(str(path), 100_000) == ("lock:" * 20_000, 5_000_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert procfs.read(str(path)) == "lock:" * 1_000_000
    assert procfs.text(str(path), 7) == "lock:lo"
