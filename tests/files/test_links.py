"""Links below /home/work: absolute ones work in every request, and none leads outside.

Races are run twice: as they are, and with the kernel's promise taken away, where they have to
succeed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from sandboxd.errors import Invalid
from sandboxd.files import beneath, commit, commit_plan, links
from sandboxd.files.links import LinkRule, real_place
from sandboxd.jail import syscalls
from sandboxd.model import HOME
from sandboxd.wire.file_calls import pack_json

from ..effort import examples
from .scratch import Scratch, receive, send_files
from .test_races import LONG_S, PATIENCE_S, flipping, meanwhile, until
from .trees import File, read_tar, tar, unpack


def with_absolute_links(scratch: Scratch) -> None:
    (scratch.home / "d/e").mkdir(parents=True)
    (scratch.home / "d/e/f").write_text("content")
    (scratch.home / "file").symlink_to(f"{HOME}/d/e/f")
    (scratch.home / "folder").symlink_to(f"{HOME}/d")
    (scratch.home / "d/again").symlink_to("../folder/e")
    (scratch.home / "top").symlink_to(HOME)


def test_absolute_link_below_the_workdir_works_in_every_request(scratch: Scratch) -> None:
    with_absolute_links(scratch)
    for path in ("file", "folder/e/f", "d/again/f", "top/top/file", "folder/again/f"):
        assert scratch.ask({"op": "read", "path": path}).data == b"content", path
        (part,) = scratch.archive(path)
        assert part.content(path.rpartition("/")[2]) == b"content"
        assert scratch.ask({"op": "stat", "path": path}).first["size"] == 7
    assert set(scratch.entries("folder")) == {"e", "again"}
    assert set(scratch.entries("d/again")) == {"f"}
    assert scratch.upload([("folder/new", b"1"), ("d/again/new", b"2"), ("top/new", b"3")]) is None
    assert (scratch.home / "d/new").read_bytes() == b"1"
    assert (scratch.home / "d/e/new").read_bytes() == b"2"
    assert (scratch.home / "new").read_bytes() == b"3"
    assert unpack(scratch, tar(File("g")), path="folder/again").kind is None
    assert (scratch.home / "d/e/g").read_bytes() == b"new"
    packed = scratch.ask({"op": "pack", "path": "top/folder", "match": []})
    assert set(read_tar(packed.data)) == {"e", "e/f", "e/new", "e/g", "again", "new"}


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "/home/workevil", "/home", "/", "/home/work/../x", "/home/work/d/../../x",
     "/home/work/missing/../../x", "/proc/self/root", "../outside/secret", "d/back/outside/secret"],
)  # fmt: skip
def test_link_that_leaves_is_refused_by_every_request(scratch: Scratch, target: str) -> None:
    (scratch.home / "d").mkdir()
    (scratch.home / "d/back").symlink_to("../..")
    (scratch.home / "l").symlink_to(target)
    for op in ({"op": "read", "path": "l"}, {"op": "archive", "paths": ["l"]},
               {"op": "list", "path": "l"}, {"op": "pack", "path": "l", "match": []}):  # fmt: skip
        answer = scratch.ask(op)
        assert (answer.kind, answer.data) == ("outside", b"")
    assert scratch.upload([("l/x", b"evil")]) == "outside"
    assert unpack(scratch, tar(File("x")), path="l").kind == "outside"
    assert scratch.untouched_outside()


def test_links_without_end_are_refused(scratch: Scratch) -> None:
    (scratch.home / "loop").symlink_to(f"{HOME}/loop")
    (scratch.home / "one").symlink_to(f"{HOME}/two")
    (scratch.home / "two").symlink_to(f"{HOME}/one/x")
    for path in ("loop", "one", "two", "loop/x"):
        assert scratch.ask({"op": "read", "path": path}).kind == "invalid"


@pytest.mark.root  # only root can mount
def test_link_into_a_mounted_folder_is_refused_for_the_true_reason(
    own_mounts: None, scratch: Scratch
) -> None:
    (scratch.home / "data").mkdir()
    for name, target in (("relative", "data"), ("absolute", f"{HOME}/data")):
        (scratch.home / name).symlink_to(target)
    syscalls.mount("tmpfs", str(scratch.home / "data"), "tmpfs", 0, "size=1m")
    try:
        (scratch.home / "data/f").write_text("folder")
        for name in ("relative", "absolute"):
            for path in (f"{name}/x", f"{name}/f", f"{name}/new/x"):
                with scratch.helper() as sock:
                    send_files(sock, [(path, b"x")])
                    sock.send(pack_json({"commit": True}))
                    answer = next(receive(sock))
                assert isinstance(answer, dict)
                assert (answer["kind"], "mounted folder" in answer["error"]) == ("invalid", True)
            result = unpack(scratch, tar(File("x")), path=name)
            assert (result.kind, "mounted folder" in result.error) == ("invalid", True)
            assert scratch.ask({"op": "read", "path": f"{name}/f"}).data == b"folder"
        assert os.listdir(scratch.home / "data") == ["f"]
    finally:
        syscalls.umount2(str(scratch.home / "data"), syscalls.MNT_DETACH)


TARGETS = st.lists(
    st.sampled_from(["a", "b", "l", "m", "..", ".", "", "/home/work", "/etc"]), min_size=1,
    max_size=5,
).map("/".join).filter(bool)  # fmt: skip


@settings(max_examples=examples(300))
@hypothesis.given(
    st.dictionaries(st.sampled_from(["l", "m", "a/l", "a/b/m", "b/l"]), TARGETS, min_size=1)
)
def test_place_of_a_link_is_where_the_kernel_leads(targets: dict[str, str]) -> None:
    """The kernel sees the tree at /home/work, in a root of its own."""
    with tempfile.TemporaryDirectory() as root:
        home = Path(root, "home/work")
        (home / "a/b").mkdir(parents=True)
        (home / "b").mkdir()
        for name, target in targets.items():
            (home / name).symlink_to(target)
        top, below = (os.open(path, os.O_PATH) for path in (root, home))
        try:
            for name in targets:
                compare(top, below, home, tuple(name.split("/")))
        finally:
            os.close(top)
            os.close(below)


RESOLVE_IN_ROOT = 0x10


def compare(top: int, below: int, home: Path, name: tuple[str, ...]) -> None:
    try:
        place = real_place(below, name)
    except Invalid:
        place = None
    try:
        path = "/home/work/" + "/".join(name)
        fd = syscalls.openat2(top, path, os.O_PATH, RESOLVE_IN_ROOT)
    except OSError:
        return  # it leads to nothing
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    if place is not None:
        assert os.path.samestat(os.lstat(home.joinpath(*place)), status)
    else:  # it left on its way, if only to return
        assert LinkRule(below).leaves(name, os.readlink(home.joinpath(*name)))


def flips_of_absolute_links(scratch: Scratch) -> Callable[[], None]:
    """The target of an absolute link keeps becoming a link that leads outside."""
    (scratch.home / "d").mkdir()
    (scratch.home / "d/secret").write_text("harmless")
    (scratch.home / "l").symlink_to(f"{HOME}/d")
    (scratch.home / "other").symlink_to(scratch.outside)
    return flipping(scratch, "d", "other")


def look_escapes(scratch: Scratch, seconds: float) -> bool:
    """Open through the absolute link: is a descriptor ever that of the file outside?"""
    outside = os.stat(scratch.outside / "secret")
    escaped: list[bool] = []
    home = os.open(scratch.home, os.O_PATH)

    def attempt() -> None:
        with contextlib.suppress(OSError, Invalid):
            fd = beneath.look(home, ("l", "secret"))
            escaped.append(os.path.samestat(os.fstat(fd), outside))
            os.close(fd)

    try:
        with meanwhile(flips_of_absolute_links(scratch)):
            reached = until(lambda: any(escaped), attempt, seconds)
    finally:
        os.close(home)
    assert escaped
    return reached


@pytest.mark.slow
def test_absolute_link_to_a_flipping_directory_gives_no_descriptor_outside(
    scratch: Scratch,
) -> None:
    assert not look_escapes(scratch, LONG_S)


def test_control_absolute_link_to_a_flipping_directory_escapes(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a plain open of the place that the links lead to, links on the way are followed."""
    original = syscalls.openat2

    def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
        if resolve & links.NO_LINKS == links.NO_LINKS:
            return os.open(path, flags, dir_fd=directory)
        return original(directory, path, flags, resolve)

    monkeypatch.setattr(beneath, "openat2", openat2)
    assert look_escapes(scratch, PATIENCE_S)


def archive_escapes(scratch: Scratch, seconds: float) -> bool:
    """Unpack below a directory that keeps becoming a link that leads outside."""
    (scratch.home / "d").mkdir()
    (scratch.home / "link").symlink_to(scratch.outside)
    attempts = iter(range(1_000_000))
    kinds: set[str | None] = set()

    def attempt() -> None:
        number = next(attempts)
        with contextlib.suppress(AssertionError):  # of `unpack`: something is outside
            kinds.add(unpack(scratch, tar(File(f"d/f{number}"), File(f"d/n{number}/x"))).kind)

    with meanwhile(flipping(scratch, "d", "link")):
        escaped = until(lambda: not scratch.untouched_outside(), attempt, seconds)
    assert kinds <= {None, "invalid", "outside"}
    return escaped


@pytest.mark.slow
def test_archive_into_a_flipping_directory_writes_nothing_outside(scratch: Scratch) -> None:
    assert not archive_escapes(scratch, LONG_S)


@pytest.mark.slow
def test_control_archive_into_a_flipping_directory_escapes(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
        return os.open(path, flags, dir_fd=directory)

    for module in (commit, commit_plan):
        monkeypatch.setattr(module, "openat2", openat2)
    assert archive_escapes(scratch, PATIENCE_S)
