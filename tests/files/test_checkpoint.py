"""The checkpoint: whatever a program does to the trees, a restoration brings them back."""

from __future__ import annotations

import os
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandboxd.files import checkpoint, exact_copy, helper
from sandboxd.wire.file_calls import pack_json

from ..effort import examples
from ..waiting import PATIENCE_S
from .built_tree import build, describe
from .scratch import receive

Change = Callable[[Path], object]


class Trees:
    """`work` and `tmp` as a build left them, and a helper that saves them."""

    def __init__(self, base: Path) -> None:
        self.work, self.tmp, self.stage = base / "work", base / "tmp", base / "stage"
        for directory in (self.work, self.tmp, self.stage):
            directory.mkdir()

    @contextmanager
    def saved(self) -> Iterator[Callable[[], dict[str, Any]]]:
        """A function that restores both trees, and returns the answer; first the answer to the
        request is checked."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_S)
        thread = threading.Thread(target=self._serve, args=(theirs,))
        thread.start()
        answers = receive(ours)

        def next_answer(request: dict[str, Any]) -> dict[str, Any]:
            ours.send(pack_json(request))
            answer = next(answers)
            assert isinstance(answer, dict)
            return answer

        try:
            first = next_answer({"op": "checkpoint"})
            assert first["ok"], first
            yield lambda: next_answer({"restore": True})
        finally:
            ours.close()
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "the helper outlived its peer"
            assert os.listdir(self.stage) == []

    def _serve(self, theirs: socket.socket) -> None:
        fds = [os.open(path, os.O_RDONLY) for path in (self.work, self.stage, self.tmp)]
        try:
            with theirs:
                helper.serve(theirs, fds[0], fds[1], None, fds[2])
        finally:
            for fd in fds:
                os.close(fd)


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


def remove_all(work: Path) -> None:
    """Remove everything in a directory."""
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def change(work: Path, name: str) -> None:
    """Do one of CHANGES."""
    for act in CHANGES[name]:
        act(work)


CHANGES: dict[str, tuple[Change, ...]] = {
    "nothing": (lambda work: None,),
    "content": (lambda work: (work / "main").write_bytes(b"\x7fELF program"),),
    "content of the same size and time": (
        lambda work: (work / "main.c").write_text("int main(void) { return 1; }\n"),
        lambda work: os.utime(work / "main.c", ns=(1, 123456789)),
    ),
    "mode": (lambda work: (work / "main").chmod(0o4711),),
    "time": (lambda work: os.utime(work / "main", ns=(5, 5)),),
    "attribute": (lambda work: os.setxattr(work / "main", "user.other", b"x"),),
    "attribute of a directory": (lambda work: os.setxattr(work / "data", "user.note", b"x"),),
    "attribute removed": (lambda work: os.removexattr(work / "data", "user.note"),),
    "new file": (lambda work: (work / "answer").write_text("42"),),
    "new file in an empty directory": (lambda work: (work / "empty" / "answer").write_text("42"),),
    "new tree": (lambda work: shutil.copytree(work / "data", work / "copy", symlinks=True),),
    "deleted file": (lambda work: (work / "main").unlink(),),
    "deleted tree": (
        lambda work: (work / "data" / "closed").chmod(0o700),
        lambda work: shutil.rmtree(work / "data"),
    ),
    "deleted directory": (lambda work: (work / "empty").rmdir(),),
    "everything deleted": (
        lambda work: (work / "data" / "closed").chmod(0o700),
        remove_all,
    ),
    "renamed": (lambda work: (work / "main").rename(work / "other"),),
    "renamed onto another": (lambda work: (work / "main").rename(work / "main.c"),),
    "directory renamed": (lambda work: (work / "data").rename(work / "moved"),),
    "directories exchanged": (
        lambda work: (work / "data").rename(work / "x"),
        lambda work: (work / "empty").rename(work / "data"),
        lambda work: (work / "x").rename(work / "empty"),
    ),
    "file instead of a directory": (
        lambda work: (work / "empty").rmdir(),
        lambda work: (work / "empty").write_text("x"),
    ),
    "directory instead of a file": (
        lambda work: (work / "main").unlink(),
        lambda work: (work / "main").mkdir(),
        lambda work: (work / "main" / "x").touch(),
    ),
    "link instead of a directory": (
        lambda work: (work / "empty").rmdir(),
        lambda work: (work / "empty").symlink_to("data"),
    ),
    "link elsewhere": (
        lambda work: (work / "link").unlink(),
        lambda work: (work / "link").symlink_to("/etc"),
    ),
    "name added to an inode": (lambda work: os.link(work / "main", work / "again"),),
    "one of three names deleted": (lambda work: (work / "two").unlink(),),
    "content by one of three names": (lambda work: (work / "two").write_text("other"),),
    "one of three names replaced by a copy": (
        lambda work: (work / "two").unlink(),
        lambda work: (work / "two").write_text("three names"),
    ),
    "directory of one of three names renamed": (lambda work: (work / "data").rename(work / "d"),),
    "directory closed": (lambda work: (work / "data").chmod(0),),
    "directory opened": (
        lambda work: (work / "data" / "closed").chmod(0o700),
        lambda work: (work / "data" / "closed" / "x").touch(),
    ),
    "tree closed": (lambda work: work.chmod(0),),
    "mode of the tree": (lambda work: work.chmod(0o777),),
    "hole filled": (lambda work: (work / "sparse").write_bytes(bytes(3 << 20)),),
    "fifo replaced": (
        lambda work: (work / "fifo").unlink(),
        lambda work: (work / "fifo").write_text("x"),
    ),
    "secret read": (
        lambda work: (work / "secret").chmod(0o600),
        lambda work: (work / "secret").chmod(0),
    ),
    "tmp": (
        lambda work: (work.parent / "tmp" / "answer").write_text("42"),
        lambda work: (work.parent / "tmp" / "cache" / "c").unlink(),
    ),
    "deeper than any name": (lambda work: make_deep(work / "empty"),),
}


def make_deep(top: Path) -> None:
    """A tree that no path reaches."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d" * 100, dir_fd=here)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_a_program_changes_is_as_before_after_a_restoration(
    trees: Trees, name: str
) -> None:
    build(trees.work, trees.tmp)
    before = describe(trees.work, trees.tmp)
    with trees.saved() as restore:
        assert describe(trees.work, trees.tmp) == before
        for _ in range(2):  # a restored entry is remembered as well
            change(trees.work, name)
            assert restore()["ok"]
            assert describe(trees.work, trees.tmp) == before
        assert restore() == {"ok": True, "restored": 0}
    assert describe(trees.work, trees.tmp) == before


@pytest.mark.slow
def test_many_changes_at_once_are_undone(trees: Trees) -> None:
    build(trees.work, trees.tmp)
    before = describe(trees.work, trees.tmp)
    for seed in range(examples(40)):
        chance = random.Random(seed)
        with trees.saved() as restore:
            for _ in range(3):
                for name in chance.sample(sorted(CHANGES), 4):
                    try:
                        change(trees.work, name)
                    except OSError:
                        pass  # an earlier change has taken its file
                assert restore()["ok"], seed
                assert describe(trees.work, trees.tmp) == before, seed


@pytest.mark.slow
def test_change_in_the_same_tick_as_the_end_of_the_copy_is_noticed(trees: Trees) -> None:
    (trees.work / "x").write_text("0")
    with trees.saved() as restore:
        for number in range(300):
            (trees.work / "x").write_text(str(number % 10))
            assert restore() == {"ok": True, "restored": 1}
            assert (trees.work / "x").read_text() == "0"


class Clock:
    """A clock that is behind all changes for some looks; it sleeps without sleeping."""

    def __init__(self, behind: int) -> None:
        self.looks, self.behind = 0, behind

    def clock_gettime_ns(self, _: int) -> int:
        self.looks += 1
        return 0 if self.looks <= self.behind else 1 << 62

    def sleep(self, _: float) -> None:
        pass


@pytest.mark.parametrize(("behind", "looks"), [(0, 1), (7, 8), (10**6, 100)])
def test_answer_waits_for_the_next_tick_but_not_for_a_clock_that_was_set_back(
    trees: Trees, monkeypatch: pytest.MonkeyPatch, behind: int, looks: int
) -> None:
    (trees.work / "x").write_text("0")
    clock = Clock(behind)
    monkeypatch.setattr(checkpoint, "time", clock)
    with trees.saved():
        assert clock.looks == looks


def test_unchanged_files_are_neither_read_nor_copied(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(trees.work, trees.tmp)
    with trees.saved() as restore:
        copied = list[str]()
        copy = exact_copy.copy_entry

        def noting(name: str, source: int, target: int, status: os.stat_result) -> None:
            copied.append(name)
            copy(name, source, target, status)

        monkeypatch.setattr(checkpoint, "copy_entry", noting)
        (trees.work / "main").write_bytes(b"x")
        assert restore() == {"ok": True, "restored": 1}
        assert copied == ["main"]


def refusal(trees: Trees) -> dict[str, Any]:
    """The answer to a checkpoint that cannot be made."""
    with pytest.raises(AssertionError) as raised, trees.saved():
        pass
    answer: dict[str, Any] = raised.value.args[0] if raised.value.args else {}
    return {"text": str(answer)}


def test_tree_with_too_many_entries_is_refused(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "ENTRIES_MAX", 10)
    build(trees.work, trees.tmp)
    assert "at most 10 of them" in refusal(trees)["text"]


def test_tree_that_is_too_deep_is_refused(trees: Trees) -> None:
    make_deep(trees.work)
    assert "directories deep" in refusal(trees)["text"]


def test_tree_without_room_for_its_copy_is_refused_as_full(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (trees.work / "x").write_text("x")
    monkeypatch.setattr(checkpoint, "copy_entry", full)
    assert "no room for the copy" in refusal(trees)["text"]
