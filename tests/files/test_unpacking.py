"""Archives into the workdir: all that a tree has arrives, and arrives as a whole."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest

from sandboxd.files.paths import DEPTH_MAX
from sandboxd.wire.file_calls import pack_data, pack_json

from .scratch import Scratch, receive
from .test_upload import NOBODY
from .trees import (
    NS,
    File,
    Member,
    directory,
    hard_link,
    identities,
    link,
    member_bytes,
    snapshot,
    tar,
    unpack,
)

MODES = [0o600, 0o700, 0o755, 0o644, 0o444, 0o555, 0, 0o777]


def nobodys(scratch: Scratch) -> None:
    """The tree belongs to the user of the session, as it does in a slot."""
    for top in (scratch.home, scratch.stage, scratch.stage.parent):
        os.chown(top, NOBODY, NOBODY)


@pytest.mark.root  # only root can become somebody else
def test_files_directories_and_links_keep_modes_and_times(scratch: Scratch) -> None:
    nobodys(scratch)
    members = [directory(f"d{mode:o}", mode, NS + mode) for mode in MODES]
    members += [directory(f"deep/d{mode:o}", mode, NS - mode) for mode in MODES]
    files = [
        File(f"{above}d{mode:o}/f{inner:o}", b"%o" % inner, inner, NS + inner)
        for above in ("", "deep/")
        for mode in MODES
        for inner in MODES
    ]
    links = [link("to_file", "d755/f600", 1), link("to_directory", "deep", -1)]
    result = unpack(scratch, tar(*members, *files, *links), uid=NOBODY)
    assert (result.kind, result.error) == (None, "")
    after = snapshot(scratch.home)
    assert after.pop("deep")[:2] == ("directory", 0o755)
    expected = {m.name: ("directory", m.mode, NS + m.mode * (-1 if "/" in m.name else 1), b"")
                for m in members}  # fmt: skip
    expected |= {f.name: ("file", f.mode, f.ns, f.content) for f in files}
    expected["to_file"] = ("link", 0o777, 1, b"d755/f600")
    expected["to_directory"] = ("link", 0o777, -1, b"deep")
    assert after == expected
    counts = {"ok": True, "files": len(files), "directories": len(members) + 1, "links": 2}
    assert result.answer == counts | {"bytes": sum(len(f.content) for f in files)}
    assert {os.lstat(path).st_uid for path in scratch.home.rglob("*")} == {NOBODY}


@pytest.mark.parametrize("ns", [0, 1, -1, NS, -(10**18), 1 << 33, 10**18 + 7])
def test_time_is_kept_to_the_nanosecond(scratch: Scratch, ns: int) -> None:
    data = tar(File("f", ns=ns), directory("d", ns=ns), link("l", "f", ns=ns), File("d/f", ns=ns))
    assert unpack(scratch, data).kind is None
    assert {state[2] for state in snapshot(scratch.home).values()} == {ns}


def test_set_id_and_sticky_bits_are_dropped(scratch: Scratch) -> None:
    assert unpack(scratch, tar(directory("d", 0o7755), File("f", mode=0o6755))).kind is None
    modes = {name: state[1] for name, state in snapshot(scratch.home).items()}
    assert modes == {"d": 0o755, "f": 0o755}


def test_names_that_are_not_utf8_and_long_ones_arrive(scratch: Scratch) -> None:
    names = ["\udcff\udcfe", "a\nb", "-rf", "*", "é/한글", "n" * 255, "p/" * 200 + "q", "../x"[3:]]
    data = tar(*(File(name, name.encode("utf-8", "surrogateescape")) for name in names))
    assert unpack(scratch, data).kind is None
    for name in names:
        path = Path(os.fsdecode(os.fsencode(scratch.home)), name)
        assert path.read_bytes() == os.fsencode(name)


def test_name_may_be_as_deep_as_the_names_of_other_requests(scratch: Scratch) -> None:
    name = "/".join(["d"] * DEPTH_MAX)
    assert unpack(scratch, tar(File(name))).kind is None
    assert scratch.ask({"op": "read", "path": name}).data == b"new"
    assert unpack(scratch, tar(File(f"{name}/d"))).kind == "invalid"


def test_names_may_have_dots_and_slashes(scratch: Scratch) -> None:
    data = tar(directory("./"), directory("./d/", 0o700), File("./d//f"), File("e/./g", b"g"))
    assert unpack(scratch, data).kind is None
    assert set(scratch.tree()) == {"d", "d/f", "e", "e/g"}
    assert snapshot(scratch.home)["d"][1] == 0o700


def test_mode_of_the_work_directory_itself_stays(scratch: Scratch) -> None:
    scratch.home.chmod(0o700)
    assert unpack(scratch, tar(directory(".", 0o777))).kind is None
    assert stat.S_IMODE(scratch.home.stat().st_mode) == 0o700


def test_last_member_of_a_name_counts(scratch: Scratch) -> None:
    data = tar(
        File("f", b"first"), link("f", "/etc"), File("f", b"last"), link("l", "x"), link("l", "f"),
        directory("d", 0o700), directory("./d", 0o750),
    )  # fmt: skip
    assert unpack(scratch, data).kind is None
    assert (scratch.home / "f").read_bytes() == b"last"
    assert os.readlink(scratch.home / "l") == "f"
    assert snapshot(scratch.home)["d"][1] == 0o750


def test_hard_links_are_one_file(scratch: Scratch) -> None:
    data = tar(File("f", b"one"), hard_link("d/h", "f"), hard_link("i", "./d/h"))
    assert unpack(scratch, data).kind is None
    inodes = {os.lstat(scratch.home / name).st_ino for name in ("f", "d/h", "i")}
    assert len(inodes) == 1
    assert (scratch.home / "d/h").read_bytes() == b"one"


LINKS = {
    "file": "d/f", "directory": "d", "up": "d/../d/f", "dangling": "nothing", "self": "self",
    "d/sibling": "f", "d/parent": "..", "d/top": "../f", "absolute": "/home/work/d/f",
    "home": "/home/work", "d/home": "/home/work/", "slashes": "//home/./work//d", "dot": ".",
    "odd": "\udcff", "into": "directory/f",
}  # fmt: skip


def test_links_that_stay_arrive_as_they_are(scratch: Scratch) -> None:
    data = tar(File("d/f"), *(link(name, target) for name, target in LINKS.items()))
    result = unpack(scratch, data)
    assert (result.kind, result.error) == (None, "")
    for name, target in LINKS.items():
        assert os.readlink(scratch.home / name) == target
    assert result.answer["links"] == len(LINKS)


def test_directory_of_the_request_is_made_with_its_parents(scratch: Scratch) -> None:
    assert unpack(scratch, tar(File("f"), directory(".", 0o700)), path="a/b").kind is None
    assert set(scratch.tree()) == {"a", "a/b", "a/b/f"}
    assert snapshot(scratch.home)["a/b"][1:3] == (0o700, NS)


@pytest.mark.parametrize("target", ["real", "/home/work/real", "other", "real/../real"])
def test_directory_of_the_request_may_be_a_link_that_stays(scratch: Scratch, target: str) -> None:
    (scratch.home / "real").mkdir()
    (scratch.home / "other").symlink_to("real")
    (scratch.home / "l").symlink_to(target)
    assert unpack(scratch, tar(File("f"), link("up", "..")), path="l").kind is None
    assert (scratch.home / "real/f").read_bytes() == b"new"


def test_existing_entries_are_replaced_and_others_stay(scratch: Scratch) -> None:
    (scratch.home / "d").mkdir(mode=0o700)
    (scratch.home / "d/old").write_text("old")
    (scratch.home / "d/other").write_text("stays")
    (scratch.home / "l").symlink_to(scratch.outside / "secret")
    os.mkfifo(scratch.home / "fifo")
    os.link(scratch.home / "d/old", scratch.home / "second")
    before = identities(scratch.home)
    data = tar(File("d/old", b"new"), File("l", b"1"), File("fifo", b"2"), link("second", "l"))
    assert unpack(scratch, data).kind is None
    after = identities(scratch.home)
    assert after["d/other"] == before["d/other"]
    assert after["d"][0] == before["d"][0]
    assert after["d"][1][1] == 0o700
    assert scratch.tree() == {
        "d": b"special", "d/old": b"new", "d/other": b"stays", "l": b"1", "fifo": b"2",
        "second": b"special",
    }  # fmt: skip
    assert (scratch.outside / "secret").read_text() == "the secret"


def test_mode_and_time_of_an_existing_directory_become_those_of_the_archive(
    scratch: Scratch,
) -> None:
    (scratch.home / "d/e").mkdir(parents=True)
    assert (
        unpack(scratch, tar(directory("d", 0o750), directory("d/e", 0), File("d/f"))).kind is None
    )
    states = snapshot(scratch.home)
    assert states["d"] == ("directory", 0o750, NS, b"")
    assert states["d/e"] == ("directory", 0, NS, b"")


def test_the_same_archive_can_be_unpacked_twice(scratch: Scratch) -> None:
    data = tar(directory("d", 0o700), File("d/f", b"1"), link("l", "d"), hard_link("h", "d/f"))
    assert unpack(scratch, data).kind is None
    first = snapshot(scratch.home)
    assert unpack(scratch, data).kind is None
    assert snapshot(scratch.home) == first


@pytest.mark.parametrize("chunk", [1, 7, 511, 512, 513, 65_536])
def test_size_of_the_packets_does_not_matter(scratch: Scratch, chunk: int) -> None:
    data = tar(File("a", os.urandom(1000)), File("n" * 200, b"y" * 512), directory("e"))
    assert unpack(scratch, data, chunk=chunk).kind is None
    assert set(scratch.tree()) == {"a", "n" * 200, "e"}


def test_two_thousand_members_arrive(scratch: Scratch) -> None:
    files = [File(f"d{number % 100}/f{number}", b"%d" % number) for number in range(2000)]
    result = unpack(scratch, tar(*files))
    assert (result.answer["files"], result.answer["directories"]) == (2000, 100)
    tree = scratch.tree()
    assert len(tree) == 2100
    assert all(tree[file.name] == file.content for file in files)


def test_what_follows_the_end_of_the_archive_is_dropped(scratch: Scratch) -> None:
    data = tar(File("f")) + member_bytes(File("g")) + os.urandom(5000)
    assert unpack(scratch, data).kind is None
    assert set(scratch.tree()) == {"f"}


def test_sender_that_goes_away_before_the_commit_leaves_nothing(scratch: Scratch) -> None:
    data = tar(File("f", bytes(200_000)), directory("d", 0))
    for size in (0, 100, 100_000, len(data)):
        with scratch.helper() as sock:
            sock.send(pack_json({"op": "unpack", "path": "."}))
            for start in range(0, size, 60_000):
                sock.send(pack_data(data[start : min(start + 60_000, size)]))
        assert scratch.tree() == {}
        assert scratch.staged() == []


@pytest.mark.parametrize(
    "packet", [pack_json({}), b"X", b"J{", pack_json({"file": "x", "mode": 420}), b"D", b"J[]"]
)
def test_packet_that_is_no_part_of_an_archive_refuses_it(scratch: Scratch, packet: bytes) -> None:
    data = tar(File("f"))
    for place in (0, 1, 2):
        packets = [pack_data(data[:700]), pack_data(data[700:])]
        packets.insert(place, packet)
        with scratch.helper() as sock:
            with contextlib.suppress(BrokenPipeError):  # it hangs up at the first error
                for each in (pack_json({"op": "unpack", "path": "."}), *packets):
                    sock.send(each)
                sock.send(pack_json({"commit": True}))
            answer = next(receive(sock))
        assert isinstance(answer, dict)
        # Behind the end of the archive, nothing is read as a part of it.
        assert answer["ok"] is False or place == 2
        assert ("f" in scratch.tree()) == answer["ok"]
        assert scratch.staged() == []


def test_earlier_members_of_a_name_do_not_count(scratch: Scratch) -> None:
    members: list[Member] = [
        File("f", b"12345"), hard_link("h", "f"), File("h", b"123"), File("f", b"1"),
        link("l", "f"), File("l", b"12"), File("l", b"1234"), File("m", b"x"), link("m", "f"),
    ]  # fmt: skip
    answer = unpack(scratch, tar(*members)).answer
    counts = {"files": 3, "directories": 0, "links": 1, "bytes": 8}
    assert answer == {"ok": True, **counts}
