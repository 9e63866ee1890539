"""A tree that is ready to be put into place, and processes that are killed as they do it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sandboxd.files import commit
from sandboxd.files.commit import recover
from sandboxd.files.commit_list import REDO, UNDO, Move
from sandboxd.files.commit_plan import STAGED, StagedTree, plan_commit
from sandboxd.files.removal import empty

from .scratch import Scratch, become
from .test_upload import NOBODY
from .trees import NS, State, identities

Identities = dict[str, tuple[int, State]]


def is_unfinished(stage: str) -> bool:
    """A helper with this stage was killed as it put a tree into place."""
    return any(os.path.lexists(f"{stage}/{name}") for name in (UNDO, REDO))


class ReadyTree:
    """A scratch with an old tree, and in its stage a new one that is ready to be put into place."""

    def __init__(self, root: Path) -> None:
        self.scratch = Scratch(root)
        home, staged = self.scratch.home, self.scratch.stage / STAGED
        (home / "d/e").mkdir(parents=True)
        for name in ("f", "d/f", "d/e/f", "d/other"):
            (home / name).write_text(f"old {name}")
        (home / "l").symlink_to("d")
        os.mkfifo(home / "d/fifo")
        for path in [*home.rglob("*"), home]:
            os.utime(path, ns=(11, 11), follow_symlinks=False)
        (home / "d/e").chmod(0o750)
        (staged / "d/e").mkdir(parents=True)
        (staged / "new/in/ner").mkdir(parents=True)
        (staged / "implicit").mkdir()
        for name in ("f", "d/f", "d/e/f", "d/fifo", "d/new", "a", "new/in/f", "implicit/f"):
            (staged / name).write_text(f"new {name}")
        (staged / "l").symlink_to("f")
        os.link(staged / "a", staged / "z")
        for path in staged.rglob("*"):
            os.utime(path, ns=(22, 22), follow_symlinks=False)
        for path in (home, self.scratch.stage):
            for each in (path, *path.rglob("*")):
                os.lchown(each, NOBODY, NOBODY)
        self.directories: dict[tuple[str, ...], tuple[int, int] | None] = {
            ("d",): (0o555, NS), ("d", "e"): None, ("new",): (0, NS + 1),
            ("new", "in"): (0o500, NS + 2), ("new", "in", "ner"): (0, NS + 3), ("implicit",): None,
        }  # fmt: skip

    @contextlib.contextmanager
    def descriptors(self) -> Iterator[tuple[int, int, StagedTree]]:
        staged = self.scratch.stage / STAGED
        if not staged.is_dir():  # a recovery that was killed has removed it
            staged = self.scratch.stage
        home, stage, tree = (
            os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            for path in (self.scratch.home, self.scratch.stage, staged)
        )
        try:
            yield home, stage, StagedTree(tree, self.directories)
        finally:
            for fd in (home, stage, tree):
                os.close(fd)

    def commit(self) -> None:
        with self.descriptors() as (home, stage, tree):
            commit.commit(home, stage, tree)

    def recover(self) -> None:
        """Recover and empty the stage, as the launcher does for the next helper."""
        assert self.in_child(next_helper) == 0
        assert not is_unfinished(str(self.scratch.stage))
        assert os.listdir(self.scratch.stage) == []

    def identities(self) -> Identities:
        return identities(self.scratch.home)

    def moves(self) -> list[Move]:
        with self.descriptors() as (home, _, tree):
            return plan_commit(home, tree).moves

    def in_child(self, act: Callable[[int, int, StagedTree], None]) -> int:
        """The exit status of `act` in a process of the session's user; negative: a signal."""
        with self.descriptors() as (home, stage, tree):
            pid = os.fork()
            if pid == 0:
                try:
                    become(NOBODY)
                    act(home, stage, tree)
                    os._exit(0)
                finally:
                    os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def next_helper(home: int, stage: int, _: StagedTree) -> None:
    recover(home, stage)
    empty(stage)


def kill_at(call: int) -> None:
    """SIGKILL after the call into the kernel of this number, of all that follow."""
    seen = iter(range(1_000_000))

    def watch(frame: FrameType, event: str, callee: Any) -> None:
        is_renameat2 = frame.f_code.co_name == "renameat2" and event == "return"
        is_builtin = event == "c_return" and (
            callee.__module__ == "posix" or callee.__name__ in ("write", "close")
        )
        if (is_builtin or is_renameat2) and next(seen) == call:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)


def before_move(number: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program does `act` before the commit's move of this number."""
    count = iter(range(1_000_000))
    original = commit._do

    def do(home: int, tree: int, move: Move) -> None:
        if next(count) == number:
            act()
        original(home, tree, move)

    monkeypatch.setattr(commit, "_do", do)
