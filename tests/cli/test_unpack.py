"""The unpacking of results: attacks of the program that has written them, and what must arrive."""

from __future__ import annotations

import errno
import os
import tarfile
import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.cli.transfer import unpack as unpacking
from sandboxd.cli.transfer.unpack import Unpacked, unpack
from sandboxd.errors import Unavailable
from sandboxd.link_targets import Place

from ..effort import examples
from .trees import archive, contents, directory, link, member

DEEP = [
    directory("p"),
    directory("p/q"),
    directory("p/q/r"),
    directory("p/q/r/deep"),
    directory("p/q/r/deep/er"),
]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """The folder for the results, beside a file that no result may reach."""
    (tmp_path / "secret").write_text("secret of the user")
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


def unpacked(into: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Unpacked:
    return unpack(archive(*members), str(into))


def leads_out(into: Path) -> list[str]:
    """The names below `into` that are resolved to a place outside of it."""
    real = os.path.realpath(into)
    return [
        name
        for name in contents(into)
        if not f"{os.path.realpath(into / name)}/".startswith(f"{real}/")
    ]


# -- attacks by links


def test_link_that_climbs_behind_another_link_reads_no_file_outside(into: Path) -> None:
    """As text p/q/r/l/../../secret stays inside; through the link l it does not."""
    result = unpacked(into, *DEEP, link("p/q/r/l", "../../.."), link("x", "p/q/r/l/../secret"))
    assert leads_out(into) == []
    assert not os.path.lexists(into / "x")
    assert [name for name, _ in result.left_out] == ["x"]


def test_link_that_climbs_behind_a_link_made_earlier_reads_no_file_outside(into: Path) -> None:
    unpacked(into, *DEEP, link("p/q/r/l", "../../.."))
    result = unpacked(into, link("x", "p/q/r/l/../secret"))
    assert leads_out(into) == [] and [name for name, _ in result.left_out] == ["x"]


def test_name_that_becomes_a_link_in_a_later_archive_leads_no_link_outside(into: Path) -> None:
    """The first archive has a link that climbs behind a name; the second changes that name."""
    unpacked(into, *DEEP, link("a", "p/q/r/deep/../../x"), link("b", "p/q/none/../../x"))
    (into / "p/q/r/deep/er").rmdir()
    (into / "p/q/r/deep").rmdir()
    unpacked(into, link("p/q/r/deep", "../../.."), link("p/q/none", "../.."))
    assert leads_out(into) == []


def test_link_through_a_link_of_the_user_that_leads_out_is_left_out(into: Path) -> None:
    (into / "mine").symlink_to("..")
    result = unpacked(into, link("x", "mine/secret"))
    assert not os.path.lexists(into / "x") and [name for name, _ in result.left_out] == ["x"]


@pytest.mark.parametrize(
    "target",
    ["../secret", "/etc/passwd", "a/../../secret", "..", "/home/work/../secret", "/home/worker"],
)
def test_link_that_leads_out_is_left_out_by_name_and_the_rest_arrives(
    into: Path, target: str
) -> None:
    result = unpacked(into, directory("a"), link("x", target), ("file", b"data"))
    assert not os.path.lexists(into / "x")
    assert [name for name, _ in result.left_out] == ["x"]
    assert target in result.left_out[0][1]
    assert (into / "file").read_bytes() == b"data"


def test_file_below_a_link_of_the_archive_is_not_written_through_it(into: Path) -> None:
    outside = into.parent
    unpacked(into, link("l", ".."), ("l/secret", b"overwritten"))
    assert (outside / "secret").read_text() == "secret of the user"


def test_file_below_an_older_link_is_not_written_through_it(into: Path) -> None:
    (into / "l").symlink_to("..")
    result = unpacked(into, ("l/secret", b"result"), ("other", b"data"))
    assert (into.parent / "secret").read_text() == "secret of the user"
    assert (into / "l" / "secret").read_bytes() == b"result" and not (into / "l").is_symlink()
    assert (into / "other").read_bytes() == b"data" and result.failed == []


def test_directory_in_the_place_of_an_older_file_or_link_replaces_it(into: Path) -> None:
    (into.parent / "elsewhere").mkdir()
    (into / "link").symlink_to("../elsewhere")
    (into / "file").write_text("old")
    ours = directory("link", mode=0o700)
    result = unpacked(into, ours, ("link/a", b"1"), directory("file"), ("file/a", b"2"))
    assert result.failed == [] and os.listdir(into.parent / "elsewhere") == []
    assert ((into / "link/a").read_bytes(), (into / "file/a").read_bytes()) == (b"1", b"2")
    assert not (into / "link").is_symlink() and (into / "link").stat().st_mode & 0o777 == 0o700


def test_file_in_the_place_of_an_older_link_replaces_it_and_not_its_target(into: Path) -> None:
    (into / "l").symlink_to("../secret")
    unpacked(into, ("l", b"result"))
    assert (into.parent / "secret").read_text() == "secret of the user"
    assert (into / "l").read_bytes() == b"result" and not (into / "l").is_symlink()


def test_file_in_the_place_of_a_hard_link_does_not_change_the_other_name(into: Path) -> None:
    os.link(into.parent / "secret", into / "l")
    unpacked(into, ("l", b"result"))
    assert (into.parent / "secret").read_text() == "secret of the user"


@pytest.mark.parametrize("name", ["../secret", "/etc/x", "a/../../secret", "a/.."])
def test_member_whose_name_leaves_the_folder_is_left_out(into: Path, name: str) -> None:
    result = unpacked(into, (name, b"overwritten"), ("file", b"data"))
    assert (into.parent / "secret").read_text() == "secret of the user"
    assert [one for one, _ in result.left_out] == [name]
    assert os.listdir(into) == ["file"]


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE]
)
def test_device_fifo_and_hard_link_are_left_out(into: Path, kind: bytes) -> None:
    result = unpacked(into, member("x", kind, "../secret", devmajor=1, devminor=3))
    assert os.listdir(into) == [] and [name for name, _ in result.left_out] == ["x"]


def test_set_id_bits_are_dropped(into: Path) -> None:
    unpacked(into, member("x", mode=0o6755), directory("d", mode=0o2755))
    assert [os.stat(into / name).st_mode & 0o7777 for name in ("x", "d")] == [0o755, 0o755]


def test_folder_of_the_user_keeps_its_mode(into: Path) -> None:
    into.chmod(0o700)
    unpacked(into, directory(".", mode=0o777), ("x", b""))
    assert into.stat().st_mode & 0o777 == 0o700


PARTS = ["a", "b", "c", "..", "..", ".", "a/b", "b/c"]
TARGETS = st.builds(
    lambda top, parts: top + "/".join(parts),
    st.sampled_from(["", "", "", "/", "/home/work/"]),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=7),
)  # fmt: skip
NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join)
FARM = st.lists(
    st.one_of(
        st.builds(link, NAMES, TARGETS),
        st.builds(directory, NAMES),
        st.tuples(NAMES, st.just(b"written")),
    ),
    max_size=16,
)


@hypothesis.given(st.lists(FARM, min_size=1, max_size=3))
@hypothesis.settings(max_examples=examples(400))
def test_random_links_never_lead_out_nor_are_written_through(
    farms: list[list[tarfile.TarInfo]],
) -> None:
    """Several archives one after the other, into one folder: the program may run again."""
    with tempfile.TemporaryDirectory() as top:
        into = Path(top, "x", "into")
        into.mkdir(parents=True)
        for name in ("a", "b", "c"):
            Path(top, name).write_text("of the user")
            Path(top, "x", name).write_text("of the user")
        for farm in farms:
            unpacked(into, *farm)
            assert leads_out(into) == []
        outside = {
            name: one for name, one in contents(top).items() if not name.startswith("x/into")
        }
        assert {one[-1] for one in outside.values() if one[0] == "file"} == {b"of the user"}


def test_random_links_lead_out_without_the_check(
    into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same attack, with the protection away, reads the file."""
    monkeypatch.setattr(
        unpacking._ResultFolder, "_target", lambda self, place: self._targets[place]
    )
    unpacked(into, *DEEP, link("p/q/r/l", "../../.."), link("x", "p/q/r/l/../secret"))
    assert leads_out(into) == ["x"]
    assert (into / "x").read_text() == "secret of the user"


# -- what must arrive


def test_modes_times_and_links_arrive_exactly(into: Path) -> None:
    times = {"mtime": "1700000000.123456789"}
    unpacked(
        into,
        directory("d", mode=0o500, pax_headers={"mtime": "1600000000.000000001"}),
        member("d/x", mode=0o640, pax_headers=times),
        member("old", mode=0o600, pax_headers={"mtime": "-1.5"}),
        link("d/inner", "../old"),
        link("dangling", "nowhere/at/all"),
        link("loop", "loop"),
    )  # fmt: skip
    assert contents(into) == {
        "d": ("directory", 0o500, 1600000000_000000001),
        "d/x": ("file", 0o640, 1700000000_123456789, b""),
        "old": ("file", 0o600, -1_500000000, b""),
        "d/inner": ("link", "../old"),
        "dangling": ("link", "nowhere/at/all"),
        "loop": ("link", "loop"),
    }


@pytest.mark.parametrize("time", ["nan", "1e400", "999999999999999999", "x", "-", "1.2.3"])
def test_member_with_an_impossible_time_arrives(into: Path, time: str) -> None:
    unpacked(into, member("x", pax_headers={"mtime": time}), ("y", b"data"))
    assert sorted(os.listdir(into)) == ["x", "y"]


def test_absolute_link_below_the_workdir_becomes_relative(into: Path) -> None:
    unpacked(
        into,
        ("lib/real", b"data"),
        link("bin/tool", "/home/work/lib/real"),
        link("all", "/home/work"),
    )
    assert os.readlink(into / "bin/tool") == "../lib/real"
    assert (into / "bin/tool").read_bytes() == b"data"
    assert os.readlink(into / "all") == "."


def test_absolute_link_stays_right_when_the_results_are_those_of_a_directory(into: Path) -> None:
    members = (
        ("lib/real", b"data"),
        link("bin/tool", "/home/work/out/lib/real"),
        link("x", "/home/work/main.c"),
    )
    result = unpack(archive(*members), str(into), ("out",))
    assert (into / "bin/tool").read_bytes() == b"data"
    assert [name for name, _ in result.left_out] == ["x"]


def test_link_that_climbs_behind_a_directory_leads_to_the_same_place(into: Path) -> None:
    unpacked(into, directory("p/q"), ("p/real", b"data"), link("x", "p/q/../real"))
    assert (into / "x").read_bytes() == b"data"


def test_link_through_a_later_link_of_the_archive_leads_to_the_same_place(into: Path) -> None:
    unpacked(into, directory("p/q"), ("p/real", b"data"), link("x", "y/../real"), link("y", "p/q"))
    assert (into / "x").read_bytes() == b"data"


def test_names_that_are_not_text_arrive(into: Path) -> None:
    name = os.fsdecode(b"\xff\xfe \n\x1b[2J")
    unpacked(into, (name, b"data"), link("l", name))
    assert (into / name).read_bytes() == b"data" and (into / "l").read_bytes() == b"data"


def test_second_result_replaces_the_first(into: Path) -> None:
    for data in (b"first", b"second"):
        unpacked(into, ("d/x", data), link("l", "d/x"))
    assert (into / "l").read_bytes() == b"second" and sorted(os.listdir(into)) == ["d", "l"]


def test_file_in_the_place_of_a_directory_is_reported_and_the_rest_arrives(into: Path) -> None:
    (into / "x").mkdir()
    (into / "y").write_text("a file")
    result = unpacked(into, ("x", b"data"), ("y/z", b"data"), ("w", b"data"))
    assert [name for name, _ in result.failed] == ["x"]
    assert (into / "y" / "z").read_bytes() == b"data"
    assert sorted(os.listdir(into)) == ["w", "x", "y"]


def test_full_disk_ends_the_unpacking_and_leaves_no_half_file(
    into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (into / "x").write_text("older")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space left"):
        unpacked(into, ("x", b"data"), ("y", b"data"))
    assert os.listdir(into) == ["x"] and (into / "x").read_text() == "older"


def test_members_before_one_that_is_refused_for_its_size_are_complete(into: Path) -> None:
    def take(place: Place, _: int) -> None:
        if place == ("d", "z"):
            raise Unavailable("too many bytes")

    top, rest = directory("d", mode=0o700, mtime=7), ("d/later", b"1")
    tar = archive(top, ("d/x", b"1"), link("d/l", "x"), ("d/z", b"1"), rest)
    with pytest.raises(Unavailable):
        unpack(tar, str(into), take=take)
    assert sorted(os.listdir(into / "d")) == ["l", "x"] and (into / "d/l").read_bytes() == b"1"
    status = (into / "d").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o700, 7)
