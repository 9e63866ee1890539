"""The tar of a directory: what matches, what is left out, and changes meanwhile."""

from __future__ import annotations

import json
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sandboxd.files import archive, globs, listing, packing
from sandboxd.files.archive import TarWriter
from sandboxd.files.paths import DEPTH_MAX
from sandboxd.files.walk import WalkEntry, walk
from sandboxd.model import HOME
from sandboxd.wire.file_calls import PACKET_MAX, pack_json

from ..waiting import PATIENCE_S
from .scratch import Answer, Scratch
from .test_upload import NOBODY
from .trees import decimal, read_tar, snapshot, unpack


def pack(scratch: Scratch, *match: str, path: str = ".", uid: int | None = None) -> Answer:
    return scratch.ask({"op": "pack", "path": path, "match": list(match)}, uid=uid)


def names(answer: Answer) -> set[str]:
    assert answer.whole
    return set(read_tar(answer.data))


def with_tree(scratch: Scratch) -> None:
    for name in ("a.txt", "b.txt", "c.log", "d/a.txt", "d/e/b.txt", "d/e/f/c.log", ".hidden"):
        (scratch.home / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch.home / name).write_text(name)
    (scratch.home / "empty").mkdir()


def test_everything_comes_with_modes_and_times_to_the_nanosecond(scratch: Scratch) -> None:
    with_tree(scratch)
    (scratch.home / "d/link").symlink_to("../a.txt")
    (scratch.home / "\udcff").write_text("odd")
    (scratch.home / ("n" * 255)).mkdir()
    for number, path in enumerate(scratch.home.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o4610)
        os.utime(path, ns=(5, (-1) ** number * 10**9 * number + number), follow_symlinks=False)
    answer = pack(scratch)
    assert answer.first == {"ok": True, "unmatched": [], "left_out": [], "left_out_count": 0}
    states = snapshot(scratch.home)
    members = read_tar(answer.data)
    assert set(members) == set(states)
    for name, (info, content) in members.items():
        kind, mode, ns, expected = states[name]
        assert info.pax_headers["mtime"] == decimal(ns)
        assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")
        if kind == "link":
            assert (info.issym(), os.fsencode(info.linkname)) == (True, expected)
        else:
            assert info.mode == mode & 0o777
            assert content == expected
    assert len(answer.data) % tarfile.RECORDSIZE == 0


def test_packed_tree_is_unpacked_as_it_was(scratch: Scratch, tmp_path: Path) -> None:
    with_tree(scratch)
    (scratch.home / "link").symlink_to("/home/work/d/e")
    (scratch.home / "d/e").chmod(0o711)
    (scratch.home / "\udcff\n").write_bytes(os.urandom(100_000))
    (tmp_path / "second").mkdir()
    second = Scratch(tmp_path / "second")
    assert unpack(second, pack(scratch).data).kind is None
    assert snapshot(second.home) == snapshot(scratch.home)


RULES: dict[tuple[str, ...], set[str]] = {
    ("*.txt",): {"a.txt", "b.txt"},
    ("**/*.txt",): {"a.txt", "b.txt", "d/a.txt", "d/e/b.txt"},
    ("d/*",): {"d/a.txt", "d/e", "d/e/b.txt", "d/e/f", "d/e/f/c.log"},
    ("d/e",): {"d/e", "d/e/b.txt", "d/e/f", "d/e/f/c.log"},
    ("d", "d/e/b.txt", "a.txt"): {
        "d", "d/a.txt", "d/e", "d/e/b.txt", "d/e/f", "d/e/f/c.log", "a.txt",
    },
    ("d/**/c.log",): {"d/e/f/c.log"},
    ("empty/",): {"empty"},
    (".*",): {".hidden"},
    ("[ab].txt", "c.???"): {"a.txt", "b.txt", "c.log"},
}  # fmt: skip


@pytest.mark.parametrize("match", RULES)
def test_what_matches_comes_and_a_directory_with_all_its_content(
    scratch: Scratch, match: tuple[str, ...]
) -> None:
    with_tree(scratch)
    answer = pack(scratch, *match)
    assert names(answer) == RULES[match]
    assert answer.first["unmatched"] == []


def test_patterns_without_a_match_are_named_and_lose_nothing(scratch: Scratch) -> None:
    with_tree(scratch)
    answer = pack(scratch, "missing", "a.txt", "x/*.c", "d/a.txt/x", "**/none")
    assert names(answer) == {"a.txt"}
    assert answer.first["unmatched"] == ["missing", "x/*.c", "d/a.txt/x", "**/none"]


def test_directory_of_the_request_may_be_any_below_the_top(scratch: Scratch) -> None:
    with_tree(scratch)
    (scratch.home / "l").symlink_to("/home/work/d")
    for path in ("d", "/home/work/d", "l", "d/e/.."):
        assert names(pack(scratch, "*.txt", path=path)) == {"a.txt"}
    assert pack(scratch, path="missing").kind == pack(scratch, path="a.txt").kind == "missing"
    assert pack(scratch, path="..").kind == "outside"


def test_what_has_no_content_to_carry_is_left_out_and_named(scratch: Scratch) -> None:
    with_tree(scratch)
    os.mkfifo(scratch.home / "d/fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(scratch.home / "sock"))
    (scratch.home / "leaving").symlink_to(scratch.outside)
    (scratch.home / "d/up").symlink_to("../../outside/secret")
    (scratch.home / "d/through").symlink_to("up/x")
    (scratch.home / "d/loop").symlink_to("loop")
    (scratch.home / "deep").symlink_to("d/e/f/../../../../outside")
    answer = pack(scratch)
    assert sorted(answer.first["left_out"]) == [
        ["d/fifo", "fifo"], ["d/through", "outside"], ["d/up", "outside"], ["deep", "outside"],
        ["leaving", "outside"], ["sock", "socket"],
    ]  # fmt: skip
    assert answer.first["left_out_count"] == 6
    assert "d/loop" in names(answer)
    assert not {"d/up", "leaving", "d/fifo"} & names(answer)
    assert b"the secret" not in answer.data
    named = pack(scratch, "leaving", "d/up", "a.txt")
    assert names(named) == {"a.txt"}
    assert sorted(named.first["left_out"]) == [["d/up", "outside"], ["leaving", "outside"]]
    assert named.first["unmatched"] == []


@pytest.mark.root  # only root can become somebody else
def test_what_cannot_be_read_is_left_out_and_named(scratch: Scratch) -> None:
    with_tree(scratch)
    scratch.home.chmod(0o755)
    (scratch.home / "a.txt").chmod(0)
    (scratch.home / "d/e").chmod(0)
    answer = pack(scratch, uid=NOBODY)
    assert sorted(answer.first["left_out"]) == [["a.txt", "unreadable"], ["d/e", "unreadable"]]
    assert names(answer) == {"b.txt", "c.log", ".hidden", "empty", "d", "d/a.txt"}


def test_directory_that_is_too_deep_is_left_out(scratch: Scratch) -> None:
    here = os.open(scratch.home, os.O_RDONLY)
    for _ in range(DEPTH_MAX + 3):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    answer = pack(scratch)
    assert [kind for _, kind in answer.first["left_out"]] == ["too_deep"]
    assert len(names(answer)) == DEPTH_MAX - 1


def test_long_names_that_are_left_out_still_fit_the_answer(scratch: Scratch) -> None:
    """With all of them named, neither the packet nor a line of HTTP headers could take them."""
    above = scratch.home.joinpath(*["\udcff" * 200] * 10)
    above.mkdir(parents=True)
    for number in range(100):
        os.mkfifo(above / f"{number}")
    answer = pack(scratch)
    assert answer.whole
    assert answer.first["left_out_count"] == 100
    assert 0 < len(answer.first["left_out"]) < packing.NAMED_MAX
    assert len(json.dumps(answer.first)) < PACKET_MAX / 2


def test_link_that_a_pattern_names_brings_its_content(scratch: Scratch) -> None:
    with_tree(scratch)
    (scratch.home / "latest").symlink_to(f"{HOME}/d/e")
    (scratch.home / "one").symlink_to("a.txt")
    (scratch.home / "nothing").symlink_to("missing")
    (scratch.home / "d/e/out").symlink_to("../../../outside")
    (scratch.home / "d/e/in").symlink_to("../../a.txt")
    answer = pack(scratch, "latest", "one", "nothing")
    members = read_tar(answer.data)
    assert set(members) == {
        "latest", "latest/b.txt", "latest/f", "latest/f/c.log", "latest/in", "one", "nothing",
    }  # fmt: skip
    assert members["latest"][0].isdir()
    assert members["one"][1] == b"a.txt"
    assert members["nothing"][0].issym()
    assert answer.first["left_out"] == [["latest/out", "outside"]]


def test_link_that_leads_to_its_own_directory_ends(scratch: Scratch) -> None:
    with_tree(scratch)
    (scratch.home / "self").symlink_to(".")
    assert {"self/a.txt", "self/self"} <= names(pack(scratch, "self"))
    assert not any(name.startswith("self/self/") for name in names(pack(scratch, "self")))


def test_entries_of_one_archive_are_bounded(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tree(scratch)
    monkeypatch.setattr(packing, "ENTRIES_MAX", 12)
    assert pack(scratch).kind is None
    (scratch.home / "self").symlink_to(".")
    assert pack(scratch, "self").kind == "invalid"
    for number in range(3):
        (scratch.home / f"more{number}").touch()
    assert pack(scratch).kind == "invalid"
    assert pack(scratch, "**/none").kind == "invalid"


@pytest.mark.parametrize("size", [0, 3, 400_000])
def test_file_that_changes_while_it_is_packed_leaves_the_tar_valid(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (scratch.home / "f").write_bytes(b"x" * 200_000)
    (scratch.home / "g").write_bytes(b"last")
    copy = TarWriter.add

    def add(self: Any, member: Any) -> None:
        if member.path == "f":
            os.truncate(scratch.home / "f", size)
        copy(self, member)

    monkeypatch.setattr(TarWriter, "add", add)
    members = read_tar(pack(scratch).data)
    assert members["g"][1] == b"last"
    assert len(members["f"][1]) == 200_000
    assert members["f"][1].rstrip(b"\0") == b"x" * min(size, 200_000)


def test_entries_that_come_and_go_between_the_two_walks_do_no_harm(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tree(scratch)
    items = packing._Packing.items

    def changing(self: packing._Packing) -> Iterator[Any]:
        yield from items(self)
        if (scratch.home / "late").is_symlink():
            return
        (scratch.home / "late").symlink_to("/etc/passwd")
        (scratch.home / "a.txt").unlink()
        (scratch.home / "late-2").write_text("late")

    monkeypatch.setattr(packing._Packing, "items", changing)
    members = names(pack(scratch))
    assert members >= {"late-2", "b.txt"}
    assert not {"late", "a.txt"} & members


def test_patterns_that_would_keep_the_helper_for_hours_are_refused(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(globs, "STEPS_MAX", 200_000)
    (scratch.home / "/".join(["d"] * 200)).mkdir(parents=True)
    answer = pack(scratch, *(f"**/*/**/*/**/*/**/?{number:02}" for number in range(100)))
    assert answer.kind == "invalid" and "too much work" in answer.first["error"]
    assert pack(scratch, "**/nothing").whole


def test_patterns_that_one_walk_can_take_break_off_no_download(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second walk comes after the answer."""
    with_tree(scratch)
    taken, add = list[int](), globs.MatchSteps.add

    def noted(self: globs.MatchSteps, count: int) -> None:
        taken.append(count)
        add(self, count)

    with monkeypatch.context() as context:
        context.setattr(globs.MatchSteps, "add", noted)
        assert pack(scratch, "**/*.txt").whole
    monkeypatch.setattr(globs, "STEPS_MAX", sum(taken) // 2)
    assert pack(scratch, "**/*.txt").whole
    monkeypatch.setattr(globs, "STEPS_MAX", sum(taken) // 2 - 1)
    assert pack(scratch, "**/*.txt").kind == "invalid"


@pytest.mark.parametrize(
    ("module", "request_"),
    [
        (packing, {"op": "pack", "path": ".", "match": ["**/x"]}),
        (archive, {"op": "archive", "paths": ["."]}),
        (listing, {"op": "created", "path": ".", "since": 0}),
        (listing, {"op": "usage"}),
    ],
    ids=["pack", "archive", "created", "usage"],
)
def test_helper_ends_its_silent_walk_when_the_api_has_gone(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch, module: ModuleType, request_: dict[str, Any]
) -> None:
    with_tree(scratch)
    begun, gone, seen = threading.Event(), threading.Event(), list[WalkEntry]()

    def watched(*wanted: Any) -> Iterator[WalkEntry]:
        begun.set()
        assert gone.wait(PATIENCE_S)
        for entry in walk(*wanted):
            seen.append(entry)
            yield entry

    monkeypatch.setattr(module, "walk", watched)
    with scratch.helper() as sock:
        sock.send(pack_json(request_))
        assert begun.wait(PATIENCE_S)
        sock.close()
        gone.set()
    assert len(seen) == 1
