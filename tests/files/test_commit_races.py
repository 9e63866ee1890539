"""Programs that change names during the commit of a tree."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxd.errors import Invalid, Refused
from sandboxd.files import commit, uploaded_tree
from sandboxd.files.commit_list import Move
from sandboxd.files.commit_plan import STAGED, StagedTree

from .ready_tree import ReadyTree, before_move, is_unfinished
from .trees import identities

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_sync")]  # only root can change uids


def directory_becomes_a_link_outside(home: Path, outside: Path) -> None:
    (home / "d").rename(home / "moved")
    (home / "d").symlink_to(outside)


def inner_directory_becomes_a_link_outside(home: Path, outside: Path) -> None:
    (home / "d/e").rename(home / "moved")
    (home / "d/e").symlink_to(outside)


def directory_disappears(home: Path, _: Path) -> None:
    shutil.rmtree(home / "d")


def file_becomes_a_directory(home: Path, _: Path) -> None:
    (home / "d/f").unlink()
    (home / "d/f").mkdir()
    (home / "d/f/mine").touch()


def file_disappears(home: Path, _: Path) -> None:
    (home / "f").unlink()


def name_is_taken(home: Path, _: Path) -> None:
    (home / "z").write_text("the program's")


def name_is_taken_by_a_link_outside(home: Path, outside: Path) -> None:
    (home / "new").symlink_to(outside)


ATTACKS = (
    directory_becomes_a_link_outside, inner_directory_becomes_a_link_outside,
    directory_disappears, file_becomes_a_directory, file_disappears, name_is_taken,
    name_is_taken_by_a_link_outside,
)  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_change_by_a_program_before_any_move_touches_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "counted").mkdir()
    outcomes = set()
    for number in range(len(ReadyTree(tmp_path / "counted").moves())):
        root = tmp_path / str(number)
        root.mkdir()
        ready = ReadyTree(root)
        home, outside = ready.scratch.home, ready.scratch.outside
        outside_before = identities(outside)

        def act(home: Path = home, outside: Path = outside) -> None:
            with contextlib.suppress(OSError):
                attack(home, outside)

        with monkeypatch.context() as patch:
            before_move(number, act, patch)
            try:
                ready.commit()
                outcomes.add("placed")
            except Refused:
                outcomes.add("refused")
                for name in ("f", "d/f", "d/e/f", "l"):
                    path = home / name
                    if path.is_symlink() or (path.exists() and path.is_file()):
                        text = os.readlink(path) if name == "l" else path.read_text()
                        assert text in (f"old {name}", "d", "the program's")
                assert not (home / "implicit").exists()
                assert not (home / "new").is_dir() or (home / "new").is_symlink()
        assert identities(outside) == outside_before
        assert not is_unfinished(str(ready.scratch.stage))
    assert "refused" in outcomes


def test_refusal_by_a_program_brings_back_the_old_tree(
    ready: ReadyTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the last move is taken by a file of the program, which stays."""
    last = next(move for move in reversed(ready.moves()) if move.kind == "new")
    number = len(ready.moves()) - 1
    path = ready.scratch.home.joinpath(*last.name)
    before = ready.identities()

    def act() -> None:
        path.write_text("the program's")

    before_move(0, act, monkeypatch)
    with pytest.raises(Invalid, match="changed it meanwhile"):
        ready.commit()
    assert number > 5
    assert path.read_text() == "the program's"
    path.unlink()
    above = path.parent
    os.utime(above, ns=(11, 11))
    assert ready.identities() == before


def test_entry_of_a_program_in_the_place_of_a_moved_one_stays(
    ready: ReadyTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ready.scratch.home
    last = len(ready.moves()) - 1

    def act() -> None:
        for name in ("a", "d/new", "f", "d/f"):
            if (home / name).exists():
                (home / "mine").write_text("the program's")
                (home / "mine").rename(home / name)
        raise OSError(4, "a failure of the last move")

    before_move(last, act, monkeypatch)
    with pytest.raises(OSError, match="a failure"):
        ready.commit()
    assert (home / "f").read_text() == (home / "a").read_text() == "the program's"


def test_directory_that_a_program_closes_meanwhile_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the user of the session: without the right to change "..", no rename would do it."""
    ready = ReadyTree(tmp_path)
    before = ready.identities()
    last = len(ready.moves()) - 1
    assert ready.moves()[last].name != ("implicit",)

    def refused(home: int, stage: int, tree: StagedTree) -> None:
        def act() -> None:
            os.chmod("implicit", 0o500, dir_fd=home)
            raise OSError(4, "a failure of the last move")

        before_move(last, act, monkeypatch)
        with pytest.raises(OSError, match="a failure"):
            commit.commit(home, stage, tree)

    assert ready.in_child(refused) == 0
    assert ready.identities() == before


def test_taken_back_directory_that_became_a_link_leaves_its_target_alone(
    ready: ReadyTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program changes the new directory to a link just as its right is to be restored."""
    home, outside = ready.scratch.home, ready.scratch.outside
    outside.chmod(0o500)
    before = identities(outside)
    original = commit._set_present

    def flip(fd: int, item: Any, mode: int | None, mtime: int | None) -> None:
        path = home.joinpath(*item.name)
        if mode == 0o700 and path.is_dir():
            path.rename(home / "moved")
            path.symlink_to(outside)
        original(fd, item, mode, mtime)

    def act() -> None:
        (home / "implicit").chmod(0o500)
        raise OSError(4, "a failure of the last move")

    monkeypatch.setattr(commit, "_set_present", flip)
    before_move(len(ready.moves()) - 1, act, monkeypatch)
    with pytest.raises(OSError, match="a failure"):
        ready.commit()
    assert (home / "moved").is_dir()
    assert identities(outside) == before


@pytest.mark.parametrize(("rounds", "is_taken"), [(1, True), (commit.TRIES, False)])
def test_file_that_a_program_makes_and_removes_is_uploaded_at_the_next_try(
    ready: ReadyTree, monkeypatch: pytest.MonkeyPatch, rounds: int, is_taken: bool
) -> None:
    """Each try plans for what is there then, and the program changes that before the move."""
    shutil.rmtree(ready.scratch.stage / STAGED)
    target, original, left = ready.scratch.home / "x", commit._do, iter(range(rounds))

    def do(home: int, tree: int, move: Move) -> None:
        if next(left, None) is not None:
            if target.exists():
                target.unlink()
            else:
                target.write_text("the program's")
        original(home, tree, move)

    monkeypatch.setattr(commit, "_do", do)
    (ready.scratch.stage / "0").write_text("uploaded")
    refusal = pytest.raises(Invalid, match="send the files again")
    outcome = contextlib.nullcontext() if is_taken else refusal
    with ready.descriptors() as (home, stage, _), outcome:
        uploaded_tree.commit_files(home, stage, {("x",): "0"})
    assert not is_taken or target.read_text() == "uploaded"
    assert is_taken or not target.exists() or target.read_text() == "the program's"
