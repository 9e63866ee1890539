"""The folder as it goes up: what it has, what is left out, and what its untrusted author tries."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from sandboxd.cli.transfer.exclusion import exclusion
from sandboxd.cli.transfer.local_tree import LocalTree, TreeEntry
from sandboxd.cli.transfer.tar_stream import CHUNK, tar_stream
from sandboxd.cli.transfer.unpack import unpack
from sandboxd.errors import ConfigError
from sandboxd.files.tar_times import decimal_seconds

from ..each_case import each_case
from .trees import Lines, contents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder to upload, beside a file that must not go up."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def names(folder: Path, *exclude: str, files: Iterable[Path] = (), vcs: bool = False) -> list[str]:
    """The names that go up."""
    excludes = exclusion(exclude, map(str, files), vcs)
    with LocalTree(str(folder), excludes, Lines()) as tree:
        return [entry.name for entry in tree.entries()]


def put(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def sent(
    folder: Path, say: Lines, change: Callable[[TreeEntry], None] = lambda _: None
) -> io.BytesIO:
    """The whole stream; `change` is called for each entry shortly before it is read."""

    def entries(tree: LocalTree) -> Iterable[TreeEntry]:
        for entry in list(tree.entries()):
            change(entry)
            yield entry

    with LocalTree(str(folder), exclusion([], [], False), say) as tree:
        return io.BytesIO(b"".join(tar_stream(tree, entries(tree), say, lambda _: None)))


def received(stream: io.BytesIO, into: Path) -> None:
    with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
        result = unpack(tar, str(into))
    assert (result.left_out, result.failed) == ([], [])


# -- the tree


def everything(folder: Path) -> None:
    """A tree with one of each."""
    put(folder, "a/b/c/deep", "run.sh", "private", "n" * 255, "L" * 200 + "/" + "M" * 200)
    (folder / "run.sh").chmod(0o700)
    (folder / "private").chmod(0o600)
    (folder / "empty").touch()
    (folder / "large").write_bytes(os.urandom(3 * CHUNK + 1))
    (folder / "empty directory" / "inner").mkdir(parents=True)
    (folder / os.fsdecode(b"\xff\xfe \n name")).write_bytes(b"\x00")
    (folder / "한글").mkdir()
    (folder / "file link").symlink_to("a/b/c/deep")
    (folder / "a" / "up").symlink_to("../run.sh")
    (folder / "directory link").symlink_to("a/b")
    (folder / "through").symlink_to("directory link/c/deep")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "top").symlink_to(".")
    os.link(folder / "run.sh", folder / "second name")
    for number, name in enumerate(sorted(contents(folder), reverse=True)):
        os.utime(folder / name, ns=(0, 1_600_000_000_123_456_789 + number), follow_symlinks=False)
    os.utime(folder / "private", ns=(0, -1))
    (folder / "한글").chmod(0o500)


def test_tree_arrives_byte_for_byte_with_modes_times_and_links(
    folder: Path, tmp_path: Path
) -> None:
    everything(folder)
    say = Lines()
    received(sent(folder, say), tmp_path / "into")
    assert contents(tmp_path / "into") == contents(folder)
    assert say.warnings == []


def test_stream_is_made_piece_by_piece(folder: Path) -> None:
    (folder / "large").write_bytes(bytes(20 * CHUNK))
    with LocalTree(str(folder), exclusion([], [], False), Lines()) as tree:
        stream = tar_stream(tree, tree.entries(), Lines(), lambda _: None)
        assert max(map(len, stream)) <= 2 * CHUNK


def test_set_id_bits_do_not_go_up(folder: Path) -> None:
    put(folder, "x")
    (folder / "x").chmod(0o6755)
    with tarfile.open(fileobj=sent(folder, Lines())) as tar:
        assert [member.mode for member in tar] == [0o755]


def test_absolute_link_below_the_folder_becomes_relative(folder: Path, tmp_path: Path) -> None:
    put(folder, "lib/real")
    (folder / "bin").mkdir()
    (folder / "bin" / "tool").symlink_to(folder / "lib" / "real")
    (folder / "all").symlink_to(folder)
    received(sent(folder, Lines()), tmp_path / "into")
    assert os.readlink(tmp_path / "into/bin/tool") == "../lib/real"
    assert os.readlink(tmp_path / "into/all") == "."


@each_case("time", [0, 1, -1, 10**9, -(10**9) - 1, 1_700_000_000_123_456_789])
def test_time_is_exact_text(time: int) -> None:
    whole, _, fraction = decimal_seconds(time).partition(".")
    sign = -1 if whole.startswith("-") else 1
    assert sign * (abs(int(whole)) * 10**9 + int(fraction)) == time


# -- an untrusted author, and other processes at work in the folder


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "inner/../../secret", "out/x"])
def test_link_that_leaves_the_folder_does_not_go_up_and_is_named(folder: Path, target: str) -> None:
    put(folder, "inner/file")
    (folder / "out").symlink_to("/tmp")
    (folder / "stolen").symlink_to(target)
    say = Lines()
    with tarfile.open(fileobj=sent(folder, say)) as tar:
        assert tar.getnames() == ["inner", "inner/file"]
    assert any("stolen" in warning and "leaves" in warning for warning in say.warnings)


def test_link_that_climbs_behind_a_link_does_not_go_up(folder: Path) -> None:
    """p/l/../secret is p/secret as text, and the file outside through the link l."""
    (folder / "p").mkdir()
    (folder / "p" / "l").symlink_to("..")
    (folder / "x").symlink_to("p/l/../secret")
    say = Lines()
    with tarfile.open(fileobj=sent(folder, say)) as tar:
        assert tar.getnames() == ["p", "p/l"]


def test_file_that_becomes_a_link_before_it_is_read_does_not_go_up(folder: Path) -> None:
    put(folder, "a", "b/c")

    def swap(entry: TreeEntry) -> None:
        path = folder / entry.name
        if entry.name == "a":
            path.unlink()
            path.symlink_to("../secret")
        if entry.name == "b/c":
            (folder / "b").rename(folder / "elsewhere")
            (folder / "b").symlink_to("/")

    say = Lines()
    assert b"secret" not in sent(folder, say, swap).getvalue()
    assert len(say.warnings) == 2


def test_special_files_are_left_out_by_name(folder: Path) -> None:
    put(folder, "x")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "socket"))
    say = Lines()
    with tarfile.open(fileobj=sent(folder, say)) as tar:
        assert tar.getnames() == ["x"]
    assert [warning.split("/")[-1].split()[0] for warning in say.warnings] == ["pipe", "socket"]


@pytest.mark.parametrize(
    ("size", "expected"), [(0, bytes(2000)), (500, b"y" * 500 + bytes(1500)), (5000, b"y" * 2000)]
)
def test_file_that_changes_its_size_does_not_damage_the_stream(
    folder: Path, tmp_path: Path, size: int, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_bytes(b"x" * 2000)
    (folder / "b").write_text("intact")
    read = os.read

    def changed(fd: int, count: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/a"):
            with (folder / "a").open("r+b") as file:
                file.truncate(0)
                file.write(b"y" * size)
        return read(fd, count)

    monkeypatch.setattr(os, "read", changed)
    say = Lines()
    stream = sent(folder, say)
    monkeypatch.undo()
    received(stream, tmp_path / "into")
    assert (tmp_path / "into/a").read_bytes() == expected
    assert (tmp_path / "into/b").read_text() == "intact"
    assert ["changed while it was read" in warning for warning in say.warnings] == [True]


def test_file_that_vanishes_is_left_out_by_name(folder: Path, tmp_path: Path) -> None:
    put(folder, "a", "b")

    def remove(entry: TreeEntry) -> None:
        if entry.name == "a":
            (folder / "a").unlink()

    say = Lines()
    received(sent(folder, say, remove), tmp_path / "into")
    assert os.listdir(tmp_path / "into") == ["b"]
    assert len(say.warnings) == 1 and "/a" in say.warnings[0]


def test_unreadable_file_is_an_error_before_anything_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "x")

    def closed(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalTree, "open", closed)
    with pytest.raises(
        ConfigError, match=r"x: Permission denied; leave it out with --exclude '/x'"
    ):
        names(folder)


def test_names_do_not_reach_the_terminal_as_commands(folder: Path) -> None:
    os.mkfifo(folder / "\x1b[2J\nforged line")
    say = Lines()
    sent(folder, say)
    assert r"\x1b[2J\nforged line" in say.warnings[0]


# -- what is left out on request


def test_version_control_goes_up_on_request_only(folder: Path) -> None:
    put(folder, ".git/config", "sub/.git", ".hg/x", "a/.svn/x", "main.c", ".github/x")
    assert names(folder) == [".github", "a", "main.c", "sub", ".github/x"]
    assert {".git/config", "sub/.git", ".hg/x", "a/.svn/x"} <= set(names(folder, vcs=True))


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("node_modules", ["a", "a/b.o", "b.o", "c"]),
        ("node_modules/", ["a", "a/b.o", "b.o", "c"]),
        ("*.o", ["a", "a/node_modules", "a/node_modules/x", "c", "node_modules", "node_modules/x"]),
        (
            "a/*.o",
            [
                "a",
                "a/node_modules",
                "a/node_modules/x",
                "b.o",
                "c",
                "node_modules",
                "node_modules/x",
            ],
        ),
        ("./node_modules", ["a", "a/b.o", "a/node_modules", "a/node_modules/x", "b.o", "c"]),
        (
            "/c",
            [
                "a",
                "a/b.o",
                "a/node_modules",
                "a/node_modules/x",
                "b.o",
                "node_modules",
                "node_modules/x",
            ],
        ),
        ("**/x", ["a", "a/b.o", "a/node_modules", "b.o", "c", "node_modules"]),
        (
            "c/",
            [
                "a",
                "a/b.o",
                "a/node_modules",
                "a/node_modules/x",
                "b.o",
                "c",
                "node_modules",
                "node_modules/x",
            ],
        ),
    ],
)
def test_excluded_names_do_not_go_up(folder: Path, pattern: str, left: list[str]) -> None:
    put(folder, "node_modules/x", "a/node_modules/x", "a/b.o", "b.o", "c")
    assert sorted(names(folder, pattern)) == left


def test_excluded_directory_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "node_modules/deep/x", "y")
    listed: list[str] = []
    original = LocalTree._listed

    def _listed(self: LocalTree, directory: str) -> list[tuple[str, os.stat_result]]:
        listed.append(directory)
        return original(self, directory)

    monkeypatch.setattr(LocalTree, "_listed", _listed)
    assert names(folder, "node_modules") == ["y"] and listed == [""]


def test_odd_names_can_be_excluded(folder: Path) -> None:
    put(folder, "#x", "!y", "z")
    assert names(folder, "#x", "!y") == ["z"]


def test_excludes_of_a_file_have_the_rules_of_gitignore(folder: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_bytes(
        b"\xef\xbb\xbf# a comment\r\n*.log\r\n!important.log\r\n/build/\r\n\r\ndocs/**/x\r\n"
    )
    put(folder, "a.log", "important.log", "build/x", "sub/build/x", "docs/x", "docs/a/b/x", "b.c")
    left = [name for name in names(folder, files=[rules]) if (folder / name).is_file()]
    assert left == ["b.c", "important.log", "sub/build/x"]


@pytest.mark.parametrize("rules", ["/nonexistent", "."])
def test_excludes_that_cannot_be_read_are_reported(folder: Path, rules: str) -> None:
    with pytest.raises(ConfigError, match="--exclude-from"):
        names(folder, files=[Path(rules)])


@pytest.mark.parametrize("pattern", ["", "/", "!", "a\\"])
def test_pattern_without_a_meaning_is_reported_or_harmless(folder: Path, pattern: str) -> None:
    put(folder, "x")
    try:
        assert names(folder, pattern) == ["x"]
    except ConfigError as error:
        assert "--exclude" in str(error)
