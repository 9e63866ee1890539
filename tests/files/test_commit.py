"""The commit of a tree: whole or not at all, also when its helper is killed at any call.

A kill is a SIGKILL that the process of the commit sends itself, after each call into the kernel.
The next helper then recovers.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from sandboxd.errors import NoSpace
from sandboxd.files import commit, uploaded_tree
from sandboxd.files.commit_list import REDO, UNDO
from sandboxd.files.commit_plan import STAGED, StagedTree

from .ready_tree import ReadyTree, before_move, is_unfinished, kill_at, next_helper
from .test_upload import NOBODY
from .trees import NS, snapshot

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_sync")]  # only root can change uids


def test_tree_gets_into_place_with_modes_and_times(ready: ReadyTree) -> None:
    before = ready.identities()
    assert ready.in_child(commit.commit) == 0
    after = ready.identities()
    states = {name: state for name, (_, state) in after.items()}
    assert states["d"][:3] == ("directory", 0o555, NS)
    assert states["d/e"][:2] == ("directory", 0o750)
    assert states["new"][:3] == ("directory", 0, NS + 1)
    assert states["new/in"][:3] == ("directory", 0o500, NS + 2)
    assert states["new/in/ner"][:3] == ("directory", 0, NS + 3)
    assert states["implicit"][:2] == ("directory", 0o755)
    for name in ("f", "d/f", "d/e/f", "d/fifo", "d/new", "a", "z", "new/in/f", "implicit/f"):
        assert states[name][3] == f"new {'a' if name == 'z' else name}".encode()
    assert states["l"][3] == b"f"
    assert after["d/other"] == before["d/other"]
    assert (after["d"][0], after["a"][0]) == (before["d"][0], after["z"][0])
    assert not is_unfinished(str(ready.scratch.stage))


def test_kill_at_any_call_leaves_the_old_tree_or_the_new_one(tmp_path: Path) -> None:
    """The old tree inode by inode, with all modes and times; the new one with all of its own."""
    outcomes, finished = set(), None
    for call in range(2000):
        root = tmp_path / str(call)
        root.mkdir()
        ready = ReadyTree(root)
        before = ready.identities()

        def act(home: int, stage: int, tree: StagedTree, call: int = call) -> None:
            kill_at(call)
            commit.commit(home, stage, tree)
            sys.setprofile(None)

        status = ready.in_child(act)
        lists = [name for name in (UNDO, REDO) if os.path.lexists(ready.scratch.stage / name)]
        ready.recover()
        after = ready.identities()
        is_old = after == before
        outcomes.add((tuple(lists), is_old))
        if not is_old:
            states = {name: state for name, (_, state) in after.items()}
            for name in (".", "d/e", "implicit"):  # their times are those of the moves
                states[name] = (*states[name][:2], 0, b"")
            finished = finished or states
            assert states == finished
        shutil.rmtree(root)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0
    assert call > 100
    assert outcomes == {((), True), ((UNDO,), True), ((REDO,), False), ((), False)}


def test_kill_at_any_call_leaves_all_files_of_an_upload_or_none(tmp_path: Path) -> None:
    outcomes = set()
    files = {("d", "f"): "0", ("n", "m", "x"): "1", ("l", "e", "f"): "2", ("d", "fifo"): "3"}
    for call in range(2000):
        root = tmp_path / str(call)
        root.mkdir()
        ready = ReadyTree(root)
        shutil.rmtree(ready.scratch.stage / STAGED)
        for name in files.values():
            (ready.scratch.stage / name).write_text(f"new {name}")
            os.chown(ready.scratch.stage / name, NOBODY, NOBODY)
        before = ready.identities()

        def act(home: int, stage: int, _: StagedTree, call: int = call) -> None:
            kill_at(call)
            uploaded_tree.commit_files(home, stage, files)
            sys.setprofile(None)

        status = ready.in_child(act)
        ready.recover()
        placed = [
            path.is_file() and path.read_text() == f"new {name}"
            for path, name in ((ready.scratch.home.joinpath(*at), n) for at, n in files.items())
        ]
        assert all(placed) or ready.identities() == before
        outcomes.add(all(placed))
        shutil.rmtree(root)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    "content", [b"", b'["new", ["f"], 1]\n', b'["new", ["f"', b'["new", ["f"], 1]\nen']
)
def test_kill_as_the_list_is_written_changes_nothing(ready: ReadyTree, content: bytes) -> None:
    before = ready.identities()
    (ready.scratch.stage / UNDO).write_bytes(content)
    os.chown(ready.scratch.stage / UNDO, NOBODY, NOBODY)
    ready.recover()
    assert ready.identities() == before


def test_kill_of_the_recovery_itself_is_recovered(tmp_path: Path) -> None:
    for call in range(0, 400, 7):
        root = tmp_path / str(call)
        root.mkdir()
        ready = ReadyTree(root)
        before = ready.identities()

        def unfinished(home: int, stage: int, tree: StagedTree) -> None:
            with pytest.MonkeyPatch.context() as patch:
                before_move(7, lambda: os.kill(os.getpid(), signal.SIGKILL), patch)
                commit.commit(home, stage, tree)

        def interrupted(home: int, stage: int, tree: StagedTree, call: int = call) -> None:
            kill_at(call)
            next_helper(home, stage, tree)
            sys.setprofile(None)

        assert ready.in_child(unfinished) == -signal.SIGKILL
        assert ready.identities() != before
        assert ready.in_child(interrupted) in (0, -signal.SIGKILL)
        ready.recover()
        assert ready.identities() == before


def test_disk_that_does_not_take_the_content_changes_nothing(
    ready: ReadyTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise NoSpace("the server's disk did not take the data")

    before = ready.identities()
    monkeypatch.setattr(commit, "sync_file_system", fail)
    with pytest.raises(NoSpace):
        ready.commit()
    assert ready.identities() == before
    assert snapshot(ready.scratch.home)["f"][3] == b"old f"
