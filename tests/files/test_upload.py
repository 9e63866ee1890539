"""Uploads: all or nothing, whatever is in the way."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from sandboxd.files.paths import colliding, naming_file
from sandboxd.jail import syscalls
from sandboxd.wire.file_calls import pack_data, pack_json, unpack

from ..effort import examples
from .scratch import Scratch, send_files
from .test_paths import MALFORMED, NO_FILE, OUTSIDE

NOBODY = 65534


def test_files_are_placed_and_directories_made(scratch: Scratch) -> None:
    big = os.urandom(1 << 20)
    assert scratch.upload([("a", b"one"), ("/home/work/s/t/b", big), ("e", b"")]) is None
    assert scratch.tree() == {
        "a": b"one", "s": b"special", "s/t": b"special", "s/t/b": big, "e": b"",
    }  # fmt: skip


def test_modes_do_not_depend_on_the_umask(scratch: Scratch) -> None:
    before = os.umask(0o022)
    try:
        with scratch.helper() as sock:
            sock.send(pack_json({"op": "upload"}))
            for name, mode in (("plain", 0o644), ("d/run", 0o755)):
                sock.send(pack_json({"file": name, "mode": mode}))
            sock.send(pack_json({"commit": True}))
            assert unpack(sock.recv(1000)) == {"ok": True}
    finally:
        os.umask(before)
    modes = {name: entry["mode"] for name, entry in scratch.entries().items()}
    assert modes == {"plain": "-rw-r--r--", "d": "drwxr-xr-x"}
    assert scratch.entries("d")["run"]["mode"] == "-rwxr-xr-x"


@pytest.mark.parametrize("mode", [0o4755, 0o777, 0, -1, None, "644", 420.5, [420]])
def test_other_modes_are_refused(scratch: Scratch, mode: object) -> None:
    with scratch.helper() as sock:
        sock.send(pack_json({"op": "upload"}))
        sock.send(pack_json({"file": "a", "mode": mode}))
        sock.send(pack_json({"commit": True}))
        answer = unpack(sock.recv(1000))
    assert isinstance(answer, dict)
    assert answer["kind"] == "invalid"
    assert scratch.tree() == {}


def test_existing_file_is_replaced_not_written_to(scratch: Scratch) -> None:
    target = scratch.home / "a"
    target.write_text("a longer old text")
    target.chmod(0o600)
    with target.open() as reader:
        assert scratch.upload([("a", b"new")]) is None
        assert reader.read() == "a longer old text"
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_last_file_of_the_same_name_wins(scratch: Scratch) -> None:
    assert scratch.upload([("a", b"1"), ("x/../a", b"2"), ("b", b"3"), ("./a", b"4")]) is None
    assert scratch.tree() == {"a": b"4", "b": b"3"}


def test_names_that_are_not_utf8_and_newlines_survive(scratch: Scratch) -> None:
    names = [b"\xff\xfe/\xe9", b"a\nb", b"-rf", b"tab\there", "é/한글".encode()]
    assert scratch.upload([(os.fsdecode(name), name) for name in names]) is None
    for name in names:
        assert Path(os.fsdecode(os.fsencode(scratch.home) + b"/" + name)).read_bytes() == name


@pytest.mark.parametrize("name", NO_FILE + OUTSIDE + MALFORMED, ids=lambda name: ascii(name)[:30])
def test_one_bad_name_refuses_the_whole_upload(scratch: Scratch, name: str) -> None:
    (scratch.home / "old").write_text("old")
    before = scratch.tree()
    files = [("old", b"new"), ("sub/good", b"x"), (name, b"evil"), ("later", b"y")]
    assert scratch.upload(files) in ("invalid", "outside")
    assert scratch.tree() == before
    assert scratch.untouched_outside()


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("x/y/z", "x"), ("a", "a/b/../c")])
def test_file_that_would_be_a_directory_too_is_refused(
    scratch: Scratch, names: tuple[str, str]
) -> None:
    assert scratch.upload([(name, b"x") for name in names]) == "invalid"
    assert scratch.tree() == {}


def test_directory_in_the_way_is_refused(scratch: Scratch) -> None:
    (scratch.home / "d").mkdir()
    assert scratch.upload([("first", b"x"), ("d", b"x")]) == "invalid"
    assert scratch.tree() == {"d": b"special"}


def test_file_in_the_way_of_a_directory_is_refused(scratch: Scratch) -> None:
    (scratch.home / "f").write_text("file")
    for name in ("f/x", "f/x/y"):
        assert scratch.upload([("first", b"x"), (name, b"x")]) == "invalid"
    assert scratch.tree() == {"f": b"file"}


def test_link_that_leaves_is_refused_and_not_written_through(scratch: Scratch) -> None:
    targets = {
        "absolute": str(scratch.outside / "secret"),
        "relative": "../outside/secret",
        "new": "../outside/new",
        "dangling": "/nonexistent/x",
        "deep": "../../../../../../../../etc/passwd",
        "home": "/home/work/../inside",
    }
    for name, target in targets.items():
        (scratch.home / name).symlink_to(target)
    (scratch.home / "folder").symlink_to(scratch.outside)
    before = scratch.tree()
    for name in (*targets, "folder", "folder/x", "folder/secret", "folder/new/x"):
        assert scratch.upload([("first", b"x"), (name, b"evil")]) == "outside", name
    assert scratch.tree() == before
    assert scratch.untouched_outside()
    assert (scratch.outside / "secret").read_text() == "the secret"


def test_link_that_stays_inside_is_itself_replaced(scratch: Scratch) -> None:
    (scratch.home / "target").write_text("kept")
    (scratch.home / "d").mkdir()
    links = {"to_file": "target", "to_nothing": "d/missing", "to_directory": "d", "odd": "target/x"}
    for name, target in links.items():
        (scratch.home / name).symlink_to(target)
    assert scratch.upload([(name, b"new") for name in links]) is None
    tree = scratch.tree()
    assert [tree[name] for name in links] == [b"new"] * len(links)
    assert tree["target"] == b"kept"
    assert not os.listdir(scratch.home / "d")


def test_directory_link_that_stays_inside_is_followed(scratch: Scratch) -> None:
    (scratch.home / "a/b").mkdir(parents=True)
    (scratch.home / "a/up").symlink_to("../other")
    (scratch.home / "other").mkdir()
    assert scratch.upload([("a/up/x/y", b"1"), ("other/z", b"2"), ("a/up/z", b"3")]) is None
    assert (scratch.home / "other/x/y").read_bytes() == b"1"
    assert (scratch.home / "other/z").read_bytes() == b"3"


def test_link_to_nothing_is_no_directory(scratch: Scratch) -> None:
    (scratch.home / "l").symlink_to("missing")
    for name in ("l/x", "l/x/y"):
        assert scratch.upload([("first", b""), (name, b"x")]) == "invalid"
    assert set(scratch.tree()) == {"l"}


def test_upload_through_a_loop_of_links_is_refused(scratch: Scratch) -> None:
    (scratch.home / "loop").symlink_to("loop")
    (scratch.home / "one").symlink_to("two")
    (scratch.home / "two").symlink_to("one")
    for name in ("loop", "loop/x", "one", "two/x/y"):
        assert scratch.upload([(name, b"x")]) == "invalid"


def test_special_files_are_replaced(scratch: Scratch) -> None:
    os.mkfifo(scratch.home / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(scratch.home / "sock"))
    assert scratch.upload([("fifo", b"1"), ("sock", b"2")]) is None
    assert scratch.tree() == {"fifo": b"1", "sock": b"2"}


def test_special_file_is_no_directory(scratch: Scratch) -> None:
    os.mkfifo(scratch.home / "fifo")
    assert scratch.upload([("fifo/x", b"1")]) == "invalid"


def test_sender_that_goes_away_leaves_nothing(scratch: Scratch) -> None:
    with scratch.helper() as sock:
        send_files(sock, [("a", b"x" * 200_000), ("b/c", b"y")])
    assert scratch.tree() == {}
    assert scratch.staged() == []


def test_refused_upload_never_blocks_its_sender(scratch: Scratch) -> None:
    assert scratch.upload([("../x", bytes(4 << 20)), ("y", bytes(4 << 20))]) == "outside"
    assert scratch.tree() == {}


@pytest.mark.parametrize(
    "packet", [b"", pack_json({}), b"X", b"J{", pack_json({"file": 7}), pack_json({"commit": 2})]
)
def test_packets_out_of_place_place_nothing(scratch: Scratch, packet: bytes) -> None:
    with scratch.helper() as sock:
        send_files(sock, [("a", b"x")])
        sock.send(packet)
        try:
            sock.send(pack_json({"commit": True}))
            answer = unpack(sock.recv(1000))
            assert isinstance(answer, dict)
            assert not answer["ok"]
        except OSError:
            assert packet == b""  # an empty packet is an end of the conversation
    assert scratch.tree() == {}
    assert scratch.staged() == []


def test_data_before_a_file_is_refused(scratch: Scratch) -> None:
    with scratch.helper() as sock:
        for packet in (pack_json({"op": "upload"}), pack_data(b"x"), pack_json({"commit": True})):
            sock.send(packet)
        answer = unpack(sock.recv(1000))
    assert isinstance(answer, dict)
    assert answer["kind"] == "invalid"


@pytest.mark.root  # only root can become somebody else
def test_directory_without_permission_refuses_all(scratch: Scratch) -> None:
    for path in (scratch.home, scratch.stage):
        os.chown(path, NOBODY, NOBODY)
    (scratch.home / "closed").mkdir(mode=0o555)
    (scratch.home / "shut").mkdir(mode=0)
    before = scratch.tree()
    for name in ("closed/x", "closed/d/x", "shut/x", "shut/d/x"):
        assert scratch.upload([("first", b"x"), (name, b"x")], uid=NOBODY) == "invalid"
    assert scratch.tree() == before


ALL_KINDS = [("n/a", b"1"), ("old", b"2"), ("link", b"3"), ("n/m/b", b"4"), ("fifo", b"5"),
             ("o/p/q/c", b"6")]  # fmt: skip


def with_old_entries(scratch: Scratch) -> dict[str, bytes]:
    """Put a file, a link and a FIFO where ALL_KINDS goes; the tree then."""
    (scratch.home / "old").write_text("old")
    (scratch.home / "link").symlink_to("old")
    os.mkfifo(scratch.home / "fifo")
    return scratch.tree()


@pytest.mark.root  # only root can become somebody else
def test_commit_that_runs_out_of_inodes_half_way_is_undone(
    own_mounts: None, tmp_path: Path
) -> None:
    """On tmpfs each directory and each hard link takes one: every step becomes the failing one."""
    outcomes = set()
    for inodes in range(10, 27):
        root = tmp_path / str(inodes)
        root.mkdir()
        syscalls.mount("tmpfs", str(root), "tmpfs", 0, f"size=1m,nr_inodes={inodes}")
        try:
            scratch = Scratch(root)
            before = with_old_entries(scratch)
            outcome = scratch.upload(ALL_KINDS)
            outcomes.add(outcome)
            if outcome is not None:
                assert scratch.tree() == before
                assert os.readlink(scratch.home / "link") == "old"
                assert stat.S_ISFIFO(os.lstat(scratch.home / "fifo").st_mode)
        finally:
            syscalls.umount2(str(root), syscalls.MNT_DETACH)
    assert outcomes == {None, "full"}


@pytest.mark.root  # only root can become somebody else
def test_upload_to_a_full_session_is_refused(own_mounts: None, tmp_path: Path) -> None:
    syscalls.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=1m")
    try:
        scratch = Scratch(tmp_path)
        (scratch.home / "old").write_bytes(bytes(600_000))
        assert scratch.upload([("old", b"x"), ("new", bytes(600_000))]) == "full"
        assert scratch.tree() == {"old": bytes(600_000)}
        assert scratch.upload([("old", bytes(300_000)), ("new", b"")]) is None
    finally:
        syscalls.umount2(str(tmp_path), syscalls.MNT_DETACH)


@pytest.mark.root  # only root can become somebody else
def test_commit_that_the_last_rename_fails_is_undone(scratch: Scratch) -> None:
    """A file of somebody else in a sticky directory: nothing tells before the rename itself."""
    with_old_entries(scratch)
    (scratch.home / "sticky").mkdir()
    (scratch.home / "sticky/theirs").write_text("theirs")
    (scratch.home / "sticky").chmod(0o1777)
    for path in (scratch.home, scratch.stage):
        os.chown(path, NOBODY, NOBODY)
    for name in ("old", "link", "fifo"):
        os.lchown(scratch.home / name, NOBODY, NOBODY)
    before = scratch.tree()
    files = [*ALL_KINDS, ("sticky/theirs", b"evil")]
    assert scratch.upload(files, uid=NOBODY) == "invalid"
    assert scratch.tree() == before
    assert scratch.upload(ALL_KINDS, uid=NOBODY) is None


NAMES = st.lists(
    st.sampled_from(["a", "b", "c", "d/e", "d", "..", "/etc", "/home/work", "l", "f", ""]),
    min_size=1, max_size=3,
).map("/".join)  # fmt: skip


@settings(max_examples=examples(60))
@hypothesis.given(st.lists(st.tuples(NAMES, st.binary(max_size=3)), min_size=1, max_size=5))
def test_upload_does_all_or_nothing(files: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        scratch = Scratch(Path(root))
        (scratch.home / "d").mkdir()
        (scratch.home / "l").symlink_to(scratch.outside)
        (scratch.home / "f").write_text("file")
        before = scratch.tree()
        kind = scratch.upload(files)
        assert scratch.untouched_outside()
        if kind is not None:
            assert scratch.tree() == before
            return
        wanted = {naming_file(name): content for name, content in files}
        assert colliding(wanted) is None
        tree = scratch.tree()
        for parts, content in wanted.items():
            assert tree["/".join(parts)] == content
