"""New directories of a virtual folder: all of a request, or none."""

from __future__ import annotations

import os

import pytest

from .scratch import Answer, Scratch


def mkdir(scratch: Scratch, *paths: str, parents: bool = True, exist_ok: bool = False) -> Answer:
    request = {"op": "mkdir", "paths": list(paths), "parents": parents, "exist_ok": exist_ok}
    return scratch.ask(request)


@pytest.mark.parametrize(
    ("paths", "kind"),
    [
        (("a", "b/c/d", "file/x"), "invalid"), (("a", "b/c", "there"), "invalid"),
        (("a", "there/new", "a/b", "file"), "invalid"), (("a", "x" * 300), "invalid"),
    ],
)  # fmt: skip
def test_refused_name_leaves_none_of_the_directories_before_it(
    scratch: Scratch, paths: tuple[str, ...], kind: str
) -> None:
    (scratch.home / "there").mkdir()
    (scratch.home / "file").write_bytes(b"")
    assert mkdir(scratch, *paths).kind == kind
    assert sorted(os.listdir(scratch.home)) == ["file", "there"]
    assert os.listdir(scratch.home / "there") == []


def test_directory_without_its_parent_leaves_none_of_the_others(scratch: Scratch) -> None:
    assert mkdir(scratch, "a", "b/c", parents=False).kind == "missing"
    assert os.listdir(scratch.home) == []


def test_directories_that_were_there_stay_after_a_refusal(scratch: Scratch) -> None:
    (scratch.home / "there").mkdir()
    (scratch.home / "file").write_bytes(b"")
    assert mkdir(scratch, "there", "there/new", "file", exist_ok=True).kind == "invalid"
    assert sorted(os.listdir(scratch.home)) == ["file", "there"]
    assert os.listdir(scratch.home / "there") == []
