"""Unfinished uploads: kept as long as somebody can go on with them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sandboxd.errors import QuotaExceeded
from sandboxd.files import resumable


def make(directory: Path, name: str, age_s: float) -> None:
    (directory / name).touch()
    os.utime(directory / name, times=(time.time() - age_s,) * 2)


def test_what_nobody_can_go_on_with_is_removed_and_no_other(tmp_path: Path) -> None:
    year = 365 * 86400.0
    # Old by the clock of the host, which may have been set by a year since.
    make(tmp_path, "going-on", year)
    make(tmp_path, "given-up", year)
    make(tmp_path, "kept-given-up", year)  # a backup of an earlier version
    make(tmp_path, "just-begun", 0)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        resumable._prune(fd, {"going-on"})
        assert sorted(os.listdir(tmp_path)) == ["going-on", "just-begun"]
    finally:
        os.close(fd)


def test_too_many_that_somebody_may_go_on_with_are_refused(tmp_path: Path) -> None:
    names = {str(number) for number in range(resumable.UPLOADS_MAX)}
    for name in names:
        make(tmp_path, name, 3600)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(QuotaExceeded):
            resumable._prune(fd, names)
    finally:
        os.close(fd)
