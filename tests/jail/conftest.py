"""Fixtures of the tests of the jail."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.jail.shown_files import Report

from .package_host import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host without packages."""
    for path in ("etc", "var/lib/dpkg/info", "usr"):
        (tmp_path / "root" / path).mkdir(parents=True)
    (tmp_path / "copy").mkdir(mode=0o755)
    return Host(tmp_path / "root", tmp_path / "copy", Report())
