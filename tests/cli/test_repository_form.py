"""Attacks by results that have the form of a repository of git, whatever its name is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli.transfer.unpack import unpack

from .trees import archive, directory, link

HEAD, REFS = ("d/HEAD", b"ref: refs/heads/main"), ("d/refs/heads/main", b"0" * 40)
OTHER_NAMES = [
    [HEAD, REFS],
    [REFS, HEAD],
    [HEAD, directory("d/refs")],
    [HEAD, ("d/commondir", b"../e")],
    [link("d/HEAD", "refs/heads/main"), REFS],
    [HEAD, link("d/refs", "e")],
    [link("d/HEAD", "e"), link("d/refs", "e")],
    [("d/head", b"ref: refs/heads/main"), REFS],
]


def is_repository(top: Path) -> bool:
    """git takes `top` for a repository, as far as names decide it."""
    there = set(os.listdir(top))
    return "HEAD" in there and bool({"refs", "commondir"} & there)


@pytest.mark.parametrize("members", OTHER_NAMES)
def test_archive_makes_no_directory_a_repository_of_git(tmp_path: Path, members: list[Any]) -> None:
    result = unpack(archive(*members), str(tmp_path))
    assert not is_repository(tmp_path / "d") and result.failed == []
    assert [name.lower() for name, _ in result.left_out] == ["d/head"]
    assert len(os.listdir(tmp_path / "d")) == 1


@pytest.mark.parametrize("members", OTHER_NAMES)
def test_two_archives_make_no_directory_a_repository_of_git(
    tmp_path: Path, members: list[Any]
) -> None:
    for one in members:
        unpack(archive(one), str(tmp_path))
    assert not is_repository(tmp_path / "d")


def test_git_takes_the_directory_for_a_repository_without_the_check(tmp_path: Path) -> None:
    unpack(archive(HEAD, REFS), str(tmp_path), is_repository=lambda _: True)
    assert is_repository(tmp_path / "d") and (tmp_path / "d/HEAD").read_bytes() == HEAD[1]


def test_file_named_head_that_makes_no_repository_arrives_in_the_place_of_an_older_one(
    tmp_path: Path,
) -> None:
    for data in (b"1", b"2"):
        members = [("HEAD", data), ("head/refs/x", data), ("d/x", data)]
        result = unpack(archive(*members), str(tmp_path))
        assert (result.left_out, result.failed) == ([], [])
    assert (tmp_path / "HEAD").read_bytes() == b"2" and len(os.listdir(tmp_path)) == 3
