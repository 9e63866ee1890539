"""Archives that are refused: by name, and with nothing changed."""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.files import links, unpacking
from sandboxd.jail import syscalls

from .scratch import Scratch
from .test_upload import NOBODY
from .trees import (
    File,
    Member,
    Unpacked,
    directory,
    entry,
    hard_link,
    identities,
    link,
    tar,
    unpack,
)


def with_tree(scratch: Scratch) -> None:
    """A tree with a file, a directory and links in the way."""
    (scratch.home / "f").write_text("old")
    (scratch.home / "d/e").mkdir(parents=True)
    (scratch.home / "d/f").write_text("old")
    (scratch.home / "inside").symlink_to("d/e")
    (scratch.home / "leaving").symlink_to(scratch.outside)
    (scratch.home / "up").symlink_to("..")
    for path in scratch.home.rglob("*"):
        os.utime(path, ns=(5, 5), follow_symlinks=False)
    os.utime(scratch.home, ns=(7, 7))


def refused(scratch: Scratch, *members: Member, path: str = ".") -> Unpacked:
    """The refusal of an archive that also has good members, after a check that the tree is the old
    one, inode by inode and with all times."""
    before = identities(scratch.home)
    result = unpack(scratch, tar(File("f"), File("new/x"), directory("d", 0), *members), path)
    assert result.kind is not None
    assert identities(scratch.home) == before
    assert (scratch.outside / "secret").read_text() == "the secret"
    return result


NAMES = {
    "/etc/passwd": "outside", "/home/work/f": "outside", "//x": "outside", "../x": "outside",
    "a/../b": "outside", "..": "outside", "d/..": "outside", "a\0b": "invalid",
    "x" * 256: "invalid", "x/" * 2100 + "y": "invalid", "": "invalid", ".": "invalid",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_name_that_leaves_or_is_none_is_refused(scratch: Scratch, name: str) -> None:
    with_tree(scratch)
    member = File("placeholder")
    info = entry("placeholder")
    info.pax_headers = {"path": name}
    info.size = len(member.content)
    header = info.tobuf(tarfile.PAX_FORMAT)
    if name == "":  # an empty record means the name of the header
        header = entry("").tobuf(tarfile.USTAR_FORMAT)
    before = identities(scratch.home)
    data = tar(File("f"))[:-1024] + header + member.content.ljust(512, b"\0") + bytes(1024)
    result = unpack(scratch, data)
    assert result.kind == NAMES[name]
    assert identities(scratch.home) == before


TYPES = {
    "a device": tarfile.CHRTYPE, "a device ": tarfile.BLKTYPE, "a FIFO": tarfile.FIFOTYPE,
    "a sparse file": tarfile.GNUTYPE_SPARSE, "not known": b"Z",
}  # fmt: skip


@pytest.mark.parametrize("reason", TYPES)
def test_member_of_another_type_is_refused_by_name(scratch: Scratch, reason: str) -> None:
    with_tree(scratch)
    result = refused(scratch, entry("odd", TYPES[reason]))
    assert result.kind == "invalid"
    assert "'odd'" in result.error
    assert reason.strip() in result.error


LEAVING: dict[str, list[Member]] = {
    "absolute": [link("x", "/etc/passwd")],
    "absolute that begins as the workdir": [link("x", "/home/workevil")],
    "absolute that climbs out": [link("x", "/home/work/../secret")],
    "relative": [link("x", "../outside/secret")],
    "relative from a directory": [link("a/b/x", "../../../outside/secret")],
    "through a link of the archive": [link("p/q/l", "../.."), link("x", "p/q/l/../secret")],
    "through a later link of the archive": [link("x", "p/q/l/../secret"), link("p/q/l", "../..")],
    "as text inside, by a link outside": [
        directory("p/q/r"), link("p/q/r/l", "../../.."), link("x", "p/q/r/l/../../secret"),
    ],
    "through a link of the tree": [link("x", "up/outside/secret")],
    "to a link of the tree that leaves": [link("x", "leaving")],
    "behind a link of the tree": [link("x", "inside/../../../outside")],
    "climbing from nothing": [link("x", "nothing/../../outside")],
    "hard link to a link": [link("a/b/l", "../../d"), hard_link("x", "a/b/l")],
    "hard link to a hard link to a link": [
        link("a/b/l", "../../d"), hard_link("a/b/m", "a/b/l"), hard_link("x", "a/b/m"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("way", LEAVING)
def test_link_that_leaves_is_refused_by_name(scratch: Scratch, way: str) -> None:
    with_tree(scratch)
    result = refused(scratch, *LEAVING[way])
    assert result.kind == "outside"
    assert "/x'" in result.error or "/l'" in result.error
    assert "leaves /home/work" in result.error


def test_link_that_leaves_only_until_it_is_replaced_is_taken(scratch: Scratch) -> None:
    assert unpack(scratch, tar(link("x", "/etc"), link("x", "y"))).kind is None
    assert os.readlink(scratch.home / "x") == "y"


def test_link_is_judged_by_the_tree_as_it_will_be(scratch: Scratch) -> None:
    """A link of the tree that leaves is replaced by a directory of the archive's own."""
    (scratch.home / "l").symlink_to(scratch.outside)
    assert unpack(scratch, tar(link("l", "d"), File("d/f"), link("x", "l/f"))).kind is None
    assert (scratch.home / "x").read_bytes() == b"new"


CONFLICTS: dict[str, list[Member]] = {
    "member through a link of the archive": [link("l", "d"), File("l/x")],
    "directory over a link of the archive": [link("l", "d"), directory("l")],
    "member through a file of the archive": [File("g"), File("g/x")],
    "directory over a file of the archive": [File("g"), directory("g")],
    "file over a directory of the archive": [directory("g"), File("g")],
    "link over a directory of the archive": [File("g/x"), link("g", "d")],
    "hard link over a directory": [directory("g"), hard_link("g", "f")],
    "member through a link of the tree": [File("inside/x")],
    "member through a link of the tree that leaves": [File("leaving/x")],
    "directory over a link of the tree": [directory("inside")],
    "directory over a file of the tree": [directory("d/f")],
    "member through a file of the tree": [File("d/f/x")],
    "file over a directory of the tree": [File("d/e")],
    "link over a directory of the tree": [link("d/e", "f")],
    "hard link to nothing": [hard_link("x", "nothing")],
    "hard link to a file of the tree": [hard_link("x", "d/f")],
    "hard link to a directory": [hard_link("x", "new")],
    "hard link to the top": [hard_link("x", ".")],
    "hard link through a link": [link("l", "new"), hard_link("x", "l/x")],
    "hard link through a file": [hard_link("x", "f/x")],
    "link to nothing": [link("x", "")],
}  # fmt: skip


@pytest.mark.parametrize("way", CONFLICTS)
def test_member_without_a_place_of_its_kind_is_refused(scratch: Scratch, way: str) -> None:
    with_tree(scratch)
    result = refused(scratch, *CONFLICTS[way])
    assert result.kind == "invalid"
    named = CONFLICTS[way][-1].name.split("/")[0]
    assert f"/{named}" in result.error or f"'{named}" in result.error


@pytest.mark.parametrize("target", ["a\0b", "c" * 5000])
def test_link_whose_target_no_name_can_be_is_refused(scratch: Scratch, target: str) -> None:
    with_tree(scratch)
    member = link("x", "placeholder")
    member.pax_headers = {"linkpath": target}
    assert refused(scratch, member).kind == "invalid"


def test_hard_link_that_climbs_is_refused(scratch: Scratch) -> None:
    with_tree(scratch)
    for target in ("../outside/secret", "d/../../outside/secret"):
        assert refused(scratch, hard_link("x", target)).kind == "outside"
    assert refused(scratch, hard_link("x", str(scratch.outside / "secret"))).kind == "invalid"


def test_link_with_a_component_that_no_name_can_have_is_taken(scratch: Scratch) -> None:
    """It leads to nothing, as the kernel also says."""
    assert unpack(scratch, tar(link("x", "c" * 300), link("y", "d/" * 2000))).kind is None


@pytest.mark.parametrize("path", ["leaving", "up", "leaving/x", "../x", "/etc", "x\0"])
def test_directory_of_the_request_that_leaves_is_refused(scratch: Scratch, path: str) -> None:
    with_tree(scratch)
    assert refused(scratch, path=path).kind == ("invalid" if "\0" in path else "outside")


def test_directory_of_the_request_that_is_a_file_is_refused(scratch: Scratch) -> None:
    with_tree(scratch)
    for path in ("f", "f/x"):
        assert refused(scratch, path=path).kind == "invalid"


@pytest.mark.parametrize("time", [1 << 63, -(1 << 63), 10**26])
def test_impossible_time_is_refused(scratch: Scratch, time: int) -> None:
    for member in (File("x", ns=time), directory("y", ns=time), link("z", "f", ns=time)):
        assert refused(scratch, member).kind == "invalid"


def test_archive_with_too_many_members_is_refused(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "ENTRIES_MAX", 10)
    members = [File("same") for _ in range(11)]  # the names need not differ
    assert "at most 10 members" in unpack(scratch, tar(*members)).error
    assert scratch.tree() == {}
    assert unpack(scratch, tar(*members[:10])).kind is None


def test_archive_with_too_many_names_is_refused(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "REMEMBERED_MAX", 5000)
    for members in ([directory(f"d{n}") for n in range(100)], [link("l", "x" * 4000)] * 2,
                    [File("d/" * 200 + "f")]):  # fmt: skip
        assert "too many or too long" in unpack(scratch, tar(*members)).error
    assert scratch.tree() == {}


def test_links_through_links_without_end_are_refused(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each link leads through forty others: thousands of such links would take hours."""
    monkeypatch.setattr(links, "STEPS_MAX", 2000)
    chain = [link(f"l{n}", "d/../" * 20 + f"l{n + 1}") for n in range(30)]
    members = [directory("d"), *chain, link("l30", "d"), *(link(f"x{n}", "l0") for n in range(100))]
    assert "too many others" in unpack(scratch, tar(*members)).error
    assert scratch.tree() == {}


def on_tmpfs(root: Path, options: str, act: Callable[[Scratch], None]) -> None:
    """Do `act` with a scratch on a small tmpfs."""
    root.mkdir()
    syscalls.mount("tmpfs", str(root), "tmpfs", 0, options)
    try:
        act(Scratch(root))
    finally:
        syscalls.umount2(str(root), syscalls.MNT_DETACH)


@pytest.mark.root  # only root can mount
def test_archive_that_the_session_has_no_room_for_is_refused(
    own_mounts: None, tmp_path: Path
) -> None:
    def act(scratch: Scratch) -> None:
        (scratch.home / "f").write_bytes(bytes(600_000))
        before = identities(scratch.home)
        for members in ([File("f", b"x"), File("g", bytes(600_000))], [File("f", bytes(500_000))]):
            result = unpack(scratch, tar(*members))
            assert (result.kind, "old and the new" in result.error) == ("full", True)
            assert identities(scratch.home) == before
        assert unpack(scratch, tar(File("f", bytes(300_000)))).kind is None

    on_tmpfs(tmp_path / "t", "size=1m", act)


@pytest.mark.root  # only root can mount
def test_archive_that_runs_out_of_inodes_at_any_step_changes_nothing(
    own_mounts: None, tmp_path: Path
) -> None:
    outcomes, errors = set(), []

    def act(scratch: Scratch) -> None:
        with_tree(scratch)
        before = identities(scratch.home)
        data = tar(File("f"), File("a/b/c"), link("d/l", "e"), directory("g"), File("d/f"))
        outcome = unpack(scratch, data, "sub")
        outcomes.add(outcome.kind)
        errors.append(outcome.error)
        assert outcome.kind is None or identities(scratch.home) == before

    for inodes in range(13, 29):
        on_tmpfs(tmp_path / str(inodes), f"size=1m,nr_inodes={inodes}", act)
    assert outcomes == {None, "full"}
    assert errors[0].startswith("no space is left in the session: all 13 inodes are in use")
    assert "ask for more with config.resource_opts.inodes" in errors[0]


@pytest.mark.root  # only root can mount
def test_mounted_folder_is_refused(own_mounts: None, tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    (scratch.home / "d/folder").mkdir(parents=True)
    (scratch.home / "into").symlink_to("d/folder")
    syscalls.mount("tmpfs", str(scratch.home / "d/folder"), "tmpfs", 0, "size=1m")
    try:
        (scratch.home / "d/folder/data").write_text("theirs")
        for members, path in (
            ([File("d/folder/data")], "."), ([directory("d/folder", 0)], "."),
            ([File("n")], "d/folder"), ([File("n")], "into"), ([File("a/n")], "into/x"),
            ([File("d/folder")], "."),
        ):  # fmt: skip
            result = refused(scratch, *members, path=path)
            assert (result.kind, "mounted folder" in result.error) == ("invalid", True), result
        assert os.listdir(scratch.home / "d/folder") == ["data"]
        assert unpack(scratch, tar(link("l", "d/folder/data"), File("d/x"))).kind is None
    finally:
        syscalls.umount2(str(scratch.home / "d/folder"), syscalls.MNT_DETACH)


@pytest.mark.root  # only root can become somebody else
def test_directory_without_permission_refuses_all(scratch: Scratch) -> None:
    for path in (scratch.home, scratch.stage):
        os.chown(path, NOBODY, NOBODY)
    for name, mode in (("closed", 0o555), ("shut", 0), ("blind", 0o300)):
        (scratch.home / name).mkdir()
        os.chown(scratch.home / name, NOBODY, NOBODY)
        (scratch.home / name).chmod(mode)
    (scratch.home / "theirs").mkdir(mode=0o777)
    (scratch.home / "theirs").chmod(0o777)
    before = identities(scratch.home)
    for member in (File("closed/x"), File("shut/x"), directory("shut", 0o755),
                   directory("blind", 0o755), directory("theirs", 0o700)):  # fmt: skip
        result = unpack(scratch, tar(File("first"), member), uid=NOBODY)
        assert (result.kind, "permission denied" in result.error) == ("invalid", True)
        assert identities(scratch.home) == before
    data = tar(directory("closed", 0o700), File("blind/x"), File("theirs/x"))
    assert unpack(scratch, data, uid=NOBODY).kind is None


def test_failure_of_the_disk_is_no_fault_of_the_request(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("sandboxd.files.sync.syncfs", fail)
    with_tree(scratch)
    assert refused(scratch, File("d/f")).kind == "nospace"


@pytest.mark.root  # only root can become somebody else
def test_refused_tree_without_rights_is_removed(scratch: Scratch) -> None:
    for path in (scratch.home, scratch.stage):
        os.chown(path, NOBODY, NOBODY)
    (scratch.home / "f").mkdir()
    data = tar(directory("a/b", 0), File("a/b/c"), directory("a", 0), File("f"))
    assert unpack(scratch, data, uid=NOBODY).kind == "invalid"
