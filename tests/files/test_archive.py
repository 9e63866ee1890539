"""Reading one file, and archives."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import resource
import socket
import subprocess
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from sandboxd.files import archive
from sandboxd.files.paths import DEPTH_MAX
from sandboxd.wire.file_calls import pack_json, unpack

from ..effort import examples
from .scratch import Answer, Scratch, little_memory, receive
from .test_upload import NOBODY


def with_special_entries(scratch: Scratch) -> None:
    os.mkfifo(scratch.home / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(scratch.home / "sock"))
    (scratch.home / "loop").symlink_to("loop")
    (scratch.home / "dangling").symlink_to("nothing")
    (scratch.home / "leaving").symlink_to(scratch.outside / "secret")
    (scratch.home / "up").symlink_to("../outside/secret")
    (scratch.home / "folder").symlink_to(scratch.outside)
    (scratch.home / "to_fifo").symlink_to("fifo")


REFUSED = [
    ("fifo", "invalid"), ("sock", "invalid"), ("to_fifo", "invalid"), ("loop", "invalid"),
    ("dangling", "missing"), ("missing", "missing"), ("fifo/x", "missing"),
    ("leaving", "outside"), ("up", "outside"), ("folder", "outside"),
    ("folder/secret", "outside"), ("folder/../secret", "missing"), ("..", "outside"),
    ("/etc/passwd", "outside"), ("", "invalid"), ("x" * 256, "invalid"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "kind"), REFUSED, ids=lambda text: text[:20])
def test_what_cannot_be_read_is_refused_before_any_data(
    scratch: Scratch, path: str, kind: str
) -> None:
    with_special_entries(scratch)
    (scratch.home / "good").write_text("good")
    read = scratch.ask({"op": "read", "path": path})
    archived = scratch.ask({"op": "archive", "paths": ["good", path]})
    for answer in (read, archived):
        assert answer.kind == kind
        assert len(answer.packets) == 1
        assert answer.data == b""


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3 << 20])
def test_file_is_read_whole(scratch: Scratch, size: int) -> None:
    content = os.urandom(size)
    (scratch.home / "d").mkdir()
    (scratch.home / "d/\udcff").write_bytes(content)
    answer = scratch.ask({"op": "read", "path": "d/\udcff"})
    assert answer.packets == [{"ok": True, "size": size, "name": "\udcff"}, {"end": True}]
    assert answer.data == content


def test_link_that_stays_inside_is_followed_by_its_reader(scratch: Scratch) -> None:
    (scratch.home / "d").mkdir()
    (scratch.home / "target").write_text("content")
    (scratch.home / "d/link").symlink_to("../target")
    answer = scratch.ask({"op": "read", "path": "d/link"})
    assert (answer.first["name"], answer.data) == ("link", b"content")
    (part,) = scratch.archive("d/link")
    assert part.content("link") == b"content"


def test_directory_is_not_read_as_a_file(scratch: Scratch) -> None:
    for path in (".", "/home/work"):
        assert scratch.ask({"op": "read", "path": path}).kind == "invalid"


def test_fifo_writer_is_not_woken_up(scratch: Scratch) -> None:
    """Opening a FIFO, even without waiting, would let its writer go on, into SIGPIPE."""
    os.mkfifo(scratch.home / "fifo")
    with subprocess.Popen(["sh", "-c", "echo x > fifo"], cwd=scratch.home) as writer:
        for op in ({"op": "read", "path": "fifo"}, {"op": "archive", "paths": ["fifo"]}):
            assert scratch.ask(op).kind == "invalid"
        assert "fifo" in scratch.archive(".")[0].left_out
        time.sleep(0.1)
        assert writer.poll() is None
        assert (scratch.home / "fifo").read_text() == "x\n"


LEASE = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open("leased", os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def leased(scratch: Scratch) -> Iterator[None]:
    """A program that holds a write lease on `leased` and does not give it up."""
    (scratch.home / "leased").write_text("x")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", LEASE]
    with subprocess.Popen(command, cwd=scratch.home, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        yield
        holder.communicate(b"")


@pytest.mark.usefixtures("leased")
def test_lease_of_a_program_does_not_hold_the_helper_up(scratch: Scratch) -> None:
    assert scratch.ask({"op": "read", "path": "leased"}).kind == "invalid"
    (part,) = scratch.archive(".")
    assert part.left_out == {"unreadable": 1}
    assert scratch.upload([("leased", b"new")]) is None


def test_archive_keeps_files_directories_and_links(scratch: Scratch) -> None:
    (scratch.home / "d/empty").mkdir(parents=True)
    (scratch.home / "d/run").write_bytes(b"#!")
    (scratch.home / "d/run").chmod(0o4755)
    os.utime(scratch.home / "d/run", (0, 1234567890.9))
    (scratch.home / "d/link").symlink_to("/etc/shadow")
    os.link(scratch.home / "d/run", scratch.home / "d/second")
    (part,) = scratch.archive("d")
    members = part.members()
    assert set(members) == {"d", "d/empty", "d/run", "d/link", "d/second"}
    assert members["d"].isdir()
    assert members["d/empty"].isdir()
    assert members["d/link"].issym()
    assert members["d/link"].linkname == "/etc/shadow"
    run = members["d/run"]
    assert (run.mode, run.mtime, run.size) == (0o755, 1234567890, 2)
    assert (run.uid, run.gid, run.uname, run.gname) == (0, 0, "", "")
    assert part.content("d/run") == part.content("d/second") == b"#!"
    assert len(part.data) % tarfile.RECORDSIZE == 0


@pytest.mark.parametrize(
    ("path", "base"),
    [(".", "work"), ("/home/work", "work"), ("a/b", "b"), ("/home/work/a/b/f", "f"), ("a/", "a")],
)
def test_member_names_begin_with_the_base_name(scratch: Scratch, path: str, base: str) -> None:
    (scratch.home / "a/b").mkdir(parents=True)
    (scratch.home / "a/b/f").write_text("x")
    (part,) = scratch.archive(path)
    assert part.base == base
    assert all(name.split("/")[0] == base for name in part.members())


def test_each_path_is_a_tar_of_its_own_in_order(scratch: Scratch) -> None:
    for name in "abc":
        (scratch.home / name).write_text(name)
    parts = scratch.archive("c", "a", "b", "a")
    assert [part.base for part in parts] == ["c", "a", "b", "a"]
    assert [part.content(part.base) for part in parts] == [b"c", b"a", b"b", b"a"]


def test_special_files_are_left_out_and_counted(scratch: Scratch) -> None:
    with_special_entries(scratch)
    (scratch.home / "sub").mkdir()
    os.mkfifo(scratch.home / "sub/fifo")
    (part,) = scratch.archive(".")
    assert part.left_out == {"fifo": 2, "socket": 1}
    links = {"loop", "dangling", "leaving", "up", "folder", "to_fifo"}
    assert set(part.members()) == {"work", "work/sub"} | {f"work/{name}" for name in links}
    assert b"the secret" not in part.data


@pytest.mark.root  # only root can become somebody else
def test_devices_are_left_out_and_counted(scratch: Scratch) -> None:
    os.mknod(scratch.home / "null", 0o020666, os.makedev(1, 3))
    assert scratch.archive(".")[0].left_out == {"device": 1}
    assert scratch.ask({"op": "read", "path": "null"}).kind == "invalid"


@pytest.mark.root  # only root can become somebody else
def test_unreadable_files_and_directories_are_left_out_and_counted(scratch: Scratch) -> None:
    (scratch.home / "file").write_text("x")
    (scratch.home / "file").chmod(0)
    (scratch.home / "shut").mkdir(mode=0)
    (scratch.home / "blind").mkdir()
    (scratch.home / "blind/x").touch()
    (scratch.home / "blind").chmod(0o444)
    answer = scratch.ask({"op": "archive", "paths": ["."]}, uid=NOBODY)
    (part,) = answer.parts
    assert part.left_out == {"unreadable": 3}
    assert set(part.members()) == {"work", "work/blind"}
    archive = scratch.ask({"op": "archive", "paths": ["blind"]}, uid=NOBODY)
    assert (archive.whole, archive.parts[0].left_out) == (True, {"unreadable": 1})
    listing = scratch.ask({"op": "created", "path": "blind", "since": 0}, uid=NOBODY)
    assert listing.first["names"] == []
    for path in ("file", "shut", "shut/x"):
        for request in ({"op": "archive", "paths": [path]}, {"op": "read", "path": path}):
            refused = scratch.ask(request, uid=NOBODY)
            assert refused.kind == "invalid"
            assert "permission denied" in refused.first["error"]


@contextlib.contextmanager
def deep_tree(top: Path, depth: int, name: str) -> Iterator[None]:
    """Directories in each other, deeper than any path can say and than pytest could remove."""
    fd = os.open(top, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=fd)
            inner = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(os.open("bottom", os.O_CREAT, dir_fd=fd))
        yield
    finally:
        os.close(fd)
        subprocess.run(["rm", "-rf", top / name], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "levels"), [("d", DEPTH_MAX - 1), ("n" * 200, 20)])
def test_tree_too_deep_to_name_is_cut_and_counted(scratch: Scratch, name: str, levels: int) -> None:
    def usual_limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    answer = Answer()
    with deep_tree(scratch.home, 3000, name):
        with scratch.forked(usual_limit) as sock:
            sock.send(pack_json({"op": "archive", "paths": ["."]}))
            for packet in receive(sock):
                answer.take(packet)
        created = scratch.ask({"op": "created", "path": ".", "since": 0})
    assert answer.whole
    (part,) = answer.parts
    assert part.left_out == {"too_deep": 1}
    assert len(part.members()) == levels
    assert created.first["names"] == []


@pytest.mark.slow
def test_archive_of_many_files_takes_constant_memory(scratch: Scratch) -> None:
    count = 10_000
    for number in range(count):
        os.close(os.open(scratch.home / f"{number:0150}", os.O_CREAT))

    answer = Answer()
    data = bytearray()
    with scratch.forked(tracemalloc.start, little_memory) as sock:
        sock.send(pack_json({"op": "archive", "paths": ["."]}))
        for packet in receive(sock):
            if isinstance(packet, bytes):
                data += packet
            else:
                answer.take(packet)
    assert answer.whole
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sum(1 for _ in tar) == count + 1


def test_endless_tree_is_refused(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ENTRIES_MAX", 5)
    for number in range(9):
        (scratch.home / str(number)).touch()
    assert scratch.ask({"op": "archive", "paths": ["."]}).kind == "invalid"


def test_sparse_terabyte_ends_with_its_reader(scratch: Scratch) -> None:
    with (scratch.home / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    for request in ({"op": "read", "path": "sparse"}, {"op": "archive", "paths": ["sparse"]}):
        with scratch.helper() as sock:
            sock.send(pack_json(request))
            for packet in itertools.islice(receive(sock), 50):
                assert packet


@pytest.mark.parametrize("size", [0, 10, 300_000, 900_000])
def test_file_that_changes_size_is_cut_or_filled_up(scratch: Scratch, size: int) -> None:
    path = scratch.home / "file"
    path.write_bytes(b"x" * 600_000)
    answer = Answer()
    with scratch.helper() as sock:
        sock.send(pack_json({"op": "archive", "paths": [".", "file"]}))
        answer.take(unpack(sock.recv(1 << 17)))  # the socket is full long before the file ends
        time.sleep(0.05)
        os.truncate(path, size)
        for packet in receive(sock):
            answer.take(packet)
    assert answer.whole
    for part, name in zip(answer.parts, ("work/file", "file"), strict=True):
        member = part.members()[name]
        assert len(part.content(name)) == member.size


NAMES = st.binary(min_size=1, max_size=120).filter(lambda name: not set(name) & set(b"/\0"))
TREES = st.dictionaries(
    NAMES.filter(lambda name: name not in (b".", b"..")), st.binary(), max_size=6
)


@settings(max_examples=examples(40))
@hypothesis.given(TREES)
def test_any_names_and_contents_survive_the_archive(
    tmp_path_factory: pytest.TempPathFactory, files: dict[bytes, bytes]
) -> None:
    scratch = Scratch(tmp_path_factory.mktemp("scratch"))
    for name, content in files.items():
        Path(os.fsdecode(os.fsencode(scratch.home) + b"/" + name)).write_bytes(content)
    (part,) = scratch.archive(".")
    assert set(part.members()) == {"work"} | {f"work/{os.fsdecode(name)}" for name in files}
    for name, content in files.items():
        assert part.content(f"work/{os.fsdecode(name)}") == content
