"""A program changes the tree while the helper works in it.

Each attack is run twice: as it is, and with openat2(2) taken away (a plain open in its place),
where it has to succeed; else the test would prove nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.files import beneath, commit, commit_plan

from .scratch import Scratch

pytestmark = pytest.mark.slow  # races are run until they have happened

LONG_S = 1.0
"""How long an attack goes on."""

PATIENCE_S = 20.0
"""How long a control may take, on a busy machine, to succeed."""


@pytest.fixture
def plain_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same helper without the kernel's promise to stay below."""

    def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
        return os.open(path, flags, dir_fd=directory)

    for module in (beneath, commit, commit_plan):
        monkeypatch.setattr(module, "openat2", openat2)


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Another process does `act` again and again."""
    pid = os.fork()
    if pid == 0:
        while True:
            with contextlib.suppress(OSError):
                act()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def flipping(scratch: Scratch, name: str, other: str) -> Callable[[], None]:
    """Swaps the entries `name` and `other` in one step: renameat2(2), RENAME_EXCHANGE."""
    one, two = (os.fsencode(scratch.home / n) for n in (name, other))
    renameat2 = ctypes.CDLL(None).renameat2
    return lambda: renameat2(-100, one, -100, two, 2)


def until(condition: Callable[[], bool], attempt: Callable[[], object], seconds: float) -> bool:
    """Go on with `attempt` until `condition` holds; False after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        attempt()
        if condition():
            return True
    return False


def with_flipping_directory(scratch: Scratch) -> Callable[[], None]:
    (scratch.home / "d").mkdir()
    (scratch.home / "d/secret").write_text("harmless")
    (scratch.home / "link").symlink_to(scratch.outside)
    return flipping(scratch, "d", "link")


def upload_escapes(scratch: Scratch, seconds: float) -> bool:
    """Upload below a directory that keeps becoming a link that leads outside."""
    attempts = iter(range(1_000_000))

    def attempt() -> None:
        number = next(attempts)
        kind = scratch.upload([(f"d/{number}", b"evil"), (f"d/new{number}/x", b"evil")])
        assert kind in (None, "outside", "invalid")

    with meanwhile(with_flipping_directory(scratch)):
        return until(lambda: not scratch.untouched_outside(), attempt, seconds)


def test_upload_through_a_flipping_directory_writes_nothing_outside(scratch: Scratch) -> None:
    assert not upload_escapes(scratch, LONG_S)


@pytest.mark.usefixtures("plain_open")
def test_control_upload_through_a_flipping_directory_escapes(scratch: Scratch) -> None:
    assert upload_escapes(scratch, PATIENCE_S)


def read_escapes(scratch: Scratch, seconds: float) -> bool:
    """Read, list and archive below the same directory."""
    read: list[bytes] = []

    def attempt() -> None:
        for request in (
            {"op": "read", "path": "d/secret"},
            {"op": "archive", "paths": ["d/secret", "d", "."]},
        ):
            answer = scratch.ask(request)
            assert answer.kind in (None, "outside", "missing")
            read.append(answer.data)

    with meanwhile(with_flipping_directory(scratch)):
        return until(lambda: any(b"the secret" in data for data in read), attempt, seconds)


def test_reading_through_a_flipping_directory_gives_nothing_of_outside(scratch: Scratch) -> None:
    assert not read_escapes(scratch, LONG_S)


@pytest.mark.usefixtures("plain_open")
def test_control_reading_through_a_flipping_directory_escapes(scratch: Scratch) -> None:
    assert read_escapes(scratch, PATIENCE_S)


@pytest.mark.usefixtures("plain_open")
def test_control_without_openat2_links_lead_outside(scratch: Scratch) -> None:
    (scratch.home / "folder").symlink_to(scratch.outside)
    assert scratch.ask({"op": "read", "path": "folder/secret"}).data == b"the secret"
    assert "secret" in scratch.entries("folder")
    assert scratch.upload([("folder/evil", b"")]) == "outside", "an upload reads links itself, too"


def test_walk_does_not_go_into_a_directory_that_became_a_link(scratch: Scratch) -> None:
    """Found on a walk, not named by the client: here O_NOFOLLOW is what holds."""
    (scratch.home / "top").mkdir()
    (scratch.home / "top/d").mkdir()
    (scratch.home / "top/f").write_text("harmless")
    (scratch.home / "link").symlink_to(scratch.outside)
    (scratch.home / "link2").symlink_to(scratch.outside / "secret")
    flips = [flipping(scratch, "top/d", "link"), flipping(scratch, "top/f", "link2")]
    read: list[bytes] = []

    def attempt() -> None:
        answer = scratch.ask({"op": "archive", "paths": ["top"]})
        assert answer.whole
        read.append(answer.data)

    with meanwhile(flips[0]), meanwhile(flips[1]):
        assert not until(lambda: b"the secret" in read[-1], attempt, LONG_S)


def test_file_that_keeps_becoming_a_fifo_never_blocks(scratch: Scratch) -> None:
    (scratch.home / "f").write_text("content")
    os.mkfifo(scratch.home / "fifo")

    def attempt() -> None:
        assert scratch.ask({"op": "read", "path": "f"}).kind in (None, "invalid", "missing")
        assert scratch.ask({"op": "archive", "paths": ["."]}).whole

    with meanwhile(flipping(scratch, "f", "fifo")):
        assert not until(lambda: False, attempt, LONG_S)


def test_target_that_keeps_becoming_a_directory_leaves_no_half_upload(scratch: Scratch) -> None:
    (scratch.home / "f").write_text("old")
    (scratch.home / "d").mkdir()
    first = scratch.home / "new"
    outcomes: set[str | None] = set()

    def attempt() -> None:
        outcome = scratch.upload([("new/first", b"1"), ("f", b"2")])
        outcomes.add(outcome)
        assert first.exists() == (outcome is None)
        shutil.rmtree(first, ignore_errors=True)

    with meanwhile(flipping(scratch, "f", "d")):
        until(lambda: False, attempt, LONG_S)
    assert outcomes == {None, "invalid"}


def test_tree_that_is_made_and_removed_all_the_time_is_walked(scratch: Scratch) -> None:
    inner = scratch.home / "a/b/c"

    def act() -> None:
        inner.mkdir(parents=True, exist_ok=True)
        Path(inner, "f").write_text("x" * 1000)
        shutil.rmtree(scratch.home / "a")

    def attempt() -> None:
        assert scratch.ask({"op": "archive", "paths": ["."]}).whole
        assert scratch.ask({"op": "list", "path": "."}).whole
        assert scratch.ask({"op": "created", "path": ".", "since": 0}).kind is None
        assert scratch.upload([("a/b/c/f", b"x"), ("a/b/g", b"y")]) in (None, "invalid")

    with meanwhile(act):
        assert not until(lambda: False, attempt, LONG_S)


@pytest.mark.parametrize("op", [{"op": "read", "path": "f"}, {"op": "archive", "paths": ["f"]}])
def test_file_that_becomes_a_fifo_between_look_and_opening_is_refused(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch, op: dict[str, Any]
) -> None:
    (scratch.home / "seen").write_text("a file")
    os.mkfifo(scratch.home / "f")
    look = beneath.look
    monkeypatch.setattr(beneath, "look", lambda home, parts: look(home, ("seen",)))
    assert scratch.ask(op).kind == "invalid"
