"""The place of a script in the workspace of its session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli.workspace_place import LOOKED_AT, first_names, place_of

from ..each_case import each_case


def session(inside: str | None) -> dict[str, Any]:
    """The description of a session with the workspace /builds/project, or without one."""
    workspace = inside and {"path": "/builds/project", "inside": inside}
    return {"sandbox": {"workspace": workspace or None}}


@each_case(
    ("inside", "directory", "place"),
    [
        ("/home/work", "/builds/project", "/home/work"),
        ("/home/work", "/builds/project/a/b", "/home/work/a/b"),
        ("/home/work/src", "/builds/project/a", "/home/work/src/a"),
        ("/home/work", "/builds", "/home/work"),
        ("/home/work", "/builds/project-2", "/home/work"),
        ("/home/work", "/builds/project/..a", "/home/work/..a"),
    ],
)
def test_script_works_in_its_directory_if_the_session_sees_that(
    inside: str, directory: str, place: str
) -> None:
    assert place_of(session(inside), directory) == ("/builds/project", inside, place)


def test_without_a_workspace_the_directory_stands_for_the_workdir() -> None:
    assert place_of(session(None), "/anywhere") == ("/anywhere", "/home/work", "/home/work")


@pytest.mark.slow
def test_runtime_of_a_workspace_is_detected_by_its_first_names(tmp_path: Path) -> None:
    for name in ("Makefile", "src/main.c", ".git/hooks/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(".")
    assert sorted(first_names(str(tmp_path))) == ["Makefile", "src/main.c"]
    for number in range(3):
        (tmp_path / f"many{number}").mkdir()
        for file in range(LOOKED_AT):
            (tmp_path / f"many{number}" / str(file)).touch()
    assert len(first_names(str(tmp_path))) < 2 * LOOKED_AT
