"""Listings, and what a run has created."""

from __future__ import annotations

import json
import os
import socket
import time
import tracemalloc
from datetime import datetime

import pytest

from sandboxd.files import listing
from sandboxd.files.listing import as_item
from sandboxd.wire.file_calls import FILE_CHUNK, pack_json

from ..each_case import each_case
from .scratch import Scratch, little_memory, receive
from .test_upload import NOBODY


def test_entries_are_described_without_following_links(scratch: Scratch) -> None:
    (scratch.home / "file").write_bytes(b"12345")
    (scratch.home / "link").symlink_to(scratch.outside / "secret")
    (scratch.home / "dir").mkdir()
    os.mkfifo(scratch.home / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(scratch.home / "sock"))
    os.utime(scratch.home / "file", (1.5, 2.5))
    entries = scratch.entries()
    kinds = {name: entry["mode"][0] for name, entry in entries.items()}
    assert kinds == {"file": "-", "link": "l", "dir": "d", "fifo": "p", "sock": "s"}
    assert set(entries["file"]) == {"mode", "size", "ctime", "mtime", "atime", "filename"}
    assert entries["file"]["size"] == 5
    assert (entries["file"]["atime"], entries["file"]["mtime"]) == (1.5, 2.5)
    assert entries["link"]["target"] == str(scratch.outside / "secret")


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        (".", "/home/work"), ("/home/work", "/home/work"), ("d", "/home/work/d"),
        ("/home/work/d/", "/home/work/d"), ("d/../d/.", "/home/work/d"), ("l", "/home/work/l"),
    ],
)  # fmt: skip
def test_the_path_is_reported_as_programs_see_it(
    scratch: Scratch, path: str, absolute: str
) -> None:
    (scratch.home / "d").mkdir()
    (scratch.home / "l").symlink_to("d")
    answer = scratch.ask({"op": "list", "path": path})
    assert answer.packets == [{"ok": True, "path": absolute}, {"end": True, "errors": ""}]


def test_empty_directory_is_an_empty_list(scratch: Scratch) -> None:
    assert scratch.ask({"op": "list", "path": "."}).data == b"[]"


def test_names_that_are_not_utf8_survive(scratch: Scratch) -> None:
    names = [b"\xff\xfe", b"a\nb", b'"quoted"', b"\x01", "한글".encode(), b"\xed\xa0\x80"]
    for name in names:
        os.close(os.open(os.fsencode(scratch.home) + b"/" + name, os.O_CREAT))
    assert sorted(os.fsencode(name) for name in scratch.entries()) == sorted(names)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("missing", "missing"), ("file", "missing"), ("file/x", "missing"), ("fifo", "missing"),
        ("leaving", "outside"), ("leaving/sub", "outside"), ("loop", "invalid"),
        ("dangling", "missing"), ("..", "outside"), ("/etc", "outside"), ("", "invalid"),
        ("\0", "invalid"), ("/", "outside"), ("up", "outside"),
    ],
)  # fmt: skip
def test_what_cannot_be_listed_is_refused(scratch: Scratch, path: str, kind: str) -> None:
    (scratch.home / "file").touch()
    os.mkfifo(scratch.home / "fifo")
    (scratch.home / "leaving").symlink_to(scratch.outside)
    (scratch.home / "up").symlink_to("..")
    (scratch.home / "loop").symlink_to("loop")
    (scratch.home / "dangling").symlink_to("nothing")
    assert scratch.ask({"op": "list", "path": path}).kind == kind


@pytest.mark.root  # only root can become somebody else
def test_directory_that_may_not_be_read_is_refused(scratch: Scratch) -> None:
    (scratch.home / "shut").mkdir(mode=0)
    assert scratch.ask({"op": "list", "path": "shut"}, uid=NOBODY).kind == "invalid"


@pytest.mark.root  # only root can become somebody else
def test_entries_that_may_not_be_looked_at_are_reported(scratch: Scratch) -> None:
    (scratch.home / "blind").mkdir()
    for name in "abc":
        (scratch.home / "blind" / name).touch()
    (scratch.home / "blind").chmod(0o444)
    answer = scratch.ask({"op": "list", "path": "blind"}, uid=NOBODY)
    assert answer.data == b"[]"
    assert "Permission denied (and 2 more)" in answer.packets[-1]["errors"]


@pytest.mark.slow
def test_large_directory_is_streamed_in_constant_memory(scratch: Scratch) -> None:
    count = 20_000
    for number in range(count):
        os.close(os.open(scratch.home / f"{number:0200}", os.O_CREAT))

    data = b""
    with scratch.forked(tracemalloc.start, little_memory) as sock:
        sock.send(pack_json({"op": "list", "path": "."}))
        for packet in receive(sock):
            data += packet if isinstance(packet, bytes) else b""
    assert len(data) > 6 << 20
    assert len(json.loads(data)) == count


def test_reader_that_goes_away_ends_the_listing(scratch: Scratch) -> None:
    for number in range(2000):
        (scratch.home / f"{number:0200}").touch()
    with scratch.helper() as sock:
        sock.send(pack_json({"op": "list", "path": "."}))
        assert len(sock.recv(FILE_CHUNK)) > 0


def test_listing_that_would_never_end_is_cut_and_says_so(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "ENTRIES_MAX", 5)
    for number in range(9):
        (scratch.home / str(number)).touch()
    answer = scratch.ask({"op": "list", "path": "."})
    assert len(json.loads(answer.data)) == 5
    assert answer.packets[-1]["errors"] == "only the first 5 entries are listed"


def created(scratch: Scratch, since: float, path: str = ".output") -> list[str]:
    answer = scratch.ask({"op": "created", "path": path, "since": since})
    assert answer.kind is None
    names: list[str] = answer.first["names"]
    return names


def test_created_tells_new_regular_files_at_any_depth(scratch: Scratch) -> None:
    output = scratch.home / ".output"
    (output / "old/new").mkdir(parents=True)
    (output / "old/file").touch()
    time.sleep(0.05)
    since = time.time()
    for name in ("z", "old/new/b", "old/new/\udcff"):
        (output / name).write_text("x")
    (output / "link").symlink_to("z")
    (output / "folder").symlink_to(scratch.outside)
    os.mkfifo(output / "fifo")
    assert created(scratch, since) == ["old/new/b", "old/new/\udcff", "z"]
    assert created(scratch, 0) == ["old/file", "old/new/b", "old/new/\udcff", "z"]
    assert created(scratch, time.time() + 100) == []


def test_file_made_at_once_is_not_missed_for_the_coarse_clock(scratch: Scratch) -> None:
    (scratch.home / ".output").mkdir()
    for number in range(30):
        since = time.time()
        (scratch.home / ".output" / str(number)).touch()
        assert str(number) in created(scratch, since)


def test_created_without_an_output_directory_is_empty(scratch: Scratch) -> None:
    assert created(scratch, 0) == []
    (scratch.home / ".output").touch()
    assert created(scratch, 0) == []


def test_created_does_not_follow_an_output_link_outside(scratch: Scratch) -> None:
    (scratch.home / ".output").symlink_to(scratch.outside)
    request = {"op": "created", "path": ".output", "since": 0}
    assert scratch.ask(request).kind == "outside"


def test_created_tells_a_bounded_number_of_names(scratch: Scratch) -> None:
    output = scratch.home / ".output"
    output.mkdir()
    for number in range(1100):
        (output / f"{number:04}").touch()
    assert created(scratch, 0) == [f"{number:04}" for number in range(1000)]


def test_created_fits_one_packet_with_the_longest_names(scratch: Scratch) -> None:
    output = scratch.home / ".output"
    output.mkdir()
    for number in range(200):
        (output / (f"{number:03}" + "\udcff" * 250)).touch()
    assert 0 < len(created(scratch, 0)) < 200


@pytest.mark.parametrize("since", ["0", None, float("inf"), float("nan"), [1], 10**400])
def test_created_since_no_time_is_refused(scratch: Scratch, since: object) -> None:
    assert scratch.ask({"op": "created", "path": ".", "since": since}).kind == "invalid"


@pytest.mark.parametrize(
    "request_",
    [
        {}, {"op": "format"}, {"op": "list"}, {"op": "list", "path": 1}, {"op": "read"},
        {"op": "archive", "paths": "x"}, {"op": "archive", "paths": [1]},
        {"op": "archive", "paths": []}, {"op": "archive", "paths": ["."] * 65},
        {"op": "created", "path": "."}, {"commit": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_request_is_refused(scratch: Scratch, request_: dict[str, object]) -> None:
    assert scratch.ask(request_).kind == "invalid"


def test_peer_that_asks_nothing_ends_the_helper(scratch: Scratch) -> None:
    with scratch.helper():
        pass


@each_case("at", [-(2.0**63), -1e11, -0.5, 0.0, 1e9, 253402300799.5, 1e12, 2.0**63])
def test_any_time_that_a_program_gives_a_file_can_be_reported(at: float) -> None:
    entry = {"filename": "f", "mode": "-rw-r--r--", "size": 1, "ctime": at, "mtime": at}
    modified = datetime.fromisoformat(as_item(entry)["modified"])
    assert modified.tzinfo is not None and 1 <= modified.year <= 9999


@pytest.mark.parametrize(
    ("mode", "type"), [("d", "DIRECTORY"), ("l", "SYMBOLIC_LINK"), ("-", "FILE"), ("p", "FILE")]
)
def test_items_have_a_type(mode: str, type: str) -> None:
    entry = {"filename": "f", "mode": f"{mode}rwxrwxrwx", "size": 1, "ctime": 0, "mtime": 0}
    assert as_item(entry)["type"] == type
