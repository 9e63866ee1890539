"""The memory of the host, and of a container that is the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.host import memory

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of cgroups of a container."""
    monkeypatch.setattr(memory, "ROOT", str(tmp_path))
    return tmp_path


def test_host_without_limits_has_the_memory_of_the_machine(root: Path) -> None:
    assert 0 < memory.available() < memory.size()


@pytest.mark.parametrize(
    ("folder", "names", "cache"),
    [
        (".", ("memory.max", "memory.current"), "inactive_file"),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
    ],
)
def test_container_has_what_its_limit_leaves(
    root: Path, folder: str, names: tuple[str, str], cache: str
) -> None:
    (root / folder).mkdir(exist_ok=True)
    for name, value in zip(names, (8 * MIB, 5 * MIB), strict=True):
        (root / folder / name).write_text(f"{value}\n")
    (root / folder / "memory.stat").write_text(f"anon 1\n{cache} {2 * MIB}\nfile 7\n")
    assert memory.size() == 8 * MIB
    assert memory.available() == 5 * MIB


def test_container_without_a_limit_has_the_memory_of_the_machine(root: Path) -> None:
    (root / "memory.max").write_text("max\n")
    (root / "memory.current").write_text("1\n")
    assert memory.available() > 8 * MIB
