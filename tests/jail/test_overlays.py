"""The plan of the overlays: which mount of the host is below which visible path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxd.host.mountinfo import MountInfo
from sandboxd.jail import overlays, syscalls
from sandboxd.jail.chroot import own_mounts
from sandboxd.jail.mounts import NOEXEC, READ_ONLY, Mount
from sandboxd.jail.overlays import FSTYPE, HostView, Overlay, Source, plan
from sandboxd.warden.doctor.trial import attempt


def mounts(*points: str, options: str = "rw,relatime") -> list[MountInfo]:
    return [
        MountInfo(str(n), f"0:{n}", point, options.split(","), ["shared:1"], "ext4", "rw")
        for n, point in enumerate(points)
    ]


def shown(view: HostView, path: str) -> dict[str, tuple[str, str]]:
    """path inside -> the directory below the overlay, and the place in it"""
    return {
        one.path: (view.lowers[one.layer], one.place)
        for one in view.sources
        if one.part_of == path and one.layer is not None
    }


def test_visible_directories_of_one_file_system_share_an_overlay() -> None:
    view = plan("/copy", ["/usr", "/bin/.."], [], mounts("/"))
    assert view.lowers == ("files", "/")
    assert shown(view, "/usr") == {"/usr": ("/", "usr")}


def test_each_mount_below_a_visible_directory_has_its_overlay() -> None:
    points = ("/", "/usr/local", "/usr/local/lib x", "/usrs", "/home")
    view = plan("/copy", ["/usr"], [], mounts(*points))
    assert view.lowers == ("files", "/", "/usr/local", "/usr/local/lib x")
    assert shown(view, "/usr") == {
        "/usr": ("/", "usr"),
        "/usr/local": ("/usr/local", ""),
        "/usr/local/lib x": ("/usr/local/lib x", ""),
    }


def test_directory_below_another_mount_is_a_place_of_its_overlay() -> None:
    view = plan("/copy", ["/usr/lib"], [], mounts("/", "/usr"))
    assert shown(view, "/usr/lib") == {"/usr/lib": ("/usr", "lib")}


def test_copy_has_the_first_overlay() -> None:
    view = plan("/copy", [], [], mounts("/"))
    assert shown(view, "/etc") == {"/etc": ("files", "etc")}
    assert view.overlays() == [Overlay("files", "layers/0", "/copy")]
    (bind,) = view.binds("/var/lib")
    assert (bind.source, bind.fstype) == ("/copy/layers/0/var/lib", FSTYPE)


def test_link_on_the_way_is_followed_when_the_plan_is_made(tmp_path: Path) -> None:
    """In an overlay of "/" it would lead to the host's own file."""
    (tmp_path / "true").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "true")
    points = mounts("/", f"{tmp_path}/true/below")
    view = plan("/copy", [f"{tmp_path}/link"], [], points)
    assert shown(view, f"{tmp_path}/link") == {
        f"{tmp_path}/link": ("/", f"{tmp_path}/true".lstrip("/")),
        f"{tmp_path}/link/below": (f"{tmp_path}/true/below", ""),
    }


def test_mount_without_execution_stays_so() -> None:
    points = mounts("/") + mounts("/usr/share", options="ro,noexec,nodev")
    attributes = {one.path: one.attributes for one in plan("/c", ["/usr"], [], points).sources}
    assert (attributes["/usr"], attributes["/usr/share"]) == (READ_ONLY, READ_ONLY | NOEXEC)


def test_mount_that_the_host_has_removed_since_is_left_out(tmp_path: Path) -> None:
    view = plan("/copy", ["/usr"], [], mounts("/", f"/usr{tmp_path}/gone"))
    assert [one.lower for one in view.overlays()] == ["files", "/"]
    assert [one.path for one in view.binds("/usr")] == ["/usr"]


def test_mount_on_a_file_and_a_fifo_are_bound_as_they_are(tmp_path: Path) -> None:
    file, fifo = tmp_path / "file", tmp_path / "fifo"
    file.touch()
    os.mkfifo(fifo)
    view = plan("/copy", [str(tmp_path)], [str(fifo)], mounts("/", str(file)))
    alone = [one for one in view.sources if one.layer is None]
    assert alone == [
        Source(str(tmp_path), str(file), None, str(file)),
        Source(str(fifo), str(fifo), None, str(fifo)),
    ]


def listed(directory: str, lower: str, path: str = "") -> str:
    """The names in `path` of an overlay of `lower`, mounted below `directory`; to be called in a
    child."""
    place = f"{directory}/place"
    os.mkdir(place)
    own_mounts()
    Mount("", "tmpfs", 0, "size=64k").apply(place)
    overlays.make_places(HostView(place, (), (lower,)))
    Overlay(lower, "layers/0", place).apply("")
    return " ".join(sorted(os.listdir(f"{place}/layers/0/{path}")))


@pytest.mark.root
@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "a b", "a:,\\"])
def test_overlay_of_a_directory_with_a_special_name(tmp_path: Path, name: str) -> None:
    lower = tmp_path / name
    lower.mkdir()
    (lower / "seen").touch()

    assert attempt(lambda: listed(str(tmp_path), str(lower)), 20) == "seen"


@pytest.mark.root
def test_host_that_is_an_overlay_itself_is_shown(tmp_path: Path) -> None:
    """As a container's root; the kernel stacks two overlays and no more."""

    def stacked(depth: int) -> str:
        own_mounts()
        Mount("", "tmpfs", 0, "size=1m").apply(str(tmp_path))
        lower = f"{tmp_path}/host0"
        os.makedirs(f"{lower}/usr")
        Path(lower, "usr", "seen").touch()
        for n in range(1, depth + 1):
            upper = f"{tmp_path}/host{n}"
            for path in (upper, f"{tmp_path}/up{n}", f"{tmp_path}/work{n}"):
                os.mkdir(path)
            options = f"lowerdir={lower},upperdir={tmp_path}/up{n},workdir={tmp_path}/work{n}"
            syscalls.mount("none", upper, "overlay", 0, options)
            lower = upper
        return listed(str(tmp_path), lower, "usr")

    assert attempt(lambda: stacked(1), 20) == "seen"
    with pytest.raises(Exception, match="Invalid argument"):
        attempt(lambda: stacked(2), 20)


@pytest.mark.root
@pytest.mark.parametrize("place", ["marked", "above/marked"])
def test_marks_of_other_overlays_on_a_directory_hide_nothing_in_it(
    tmp_path: Path, place: str
) -> None:
    def seen() -> str:
        own_mounts()
        Mount("", "tmpfs", 0, "size=1m").apply(str(tmp_path))
        marked = tmp_path / "host" / place
        marked.mkdir(parents=True)
        (marked / "seen").touch()
        os.setxattr(marked, "trusted.overlay.opaque", b"y")
        os.setxattr(marked, "trusted.overlay.redirect", b"/above")
        return listed(str(tmp_path), f"{tmp_path}/host", place)

    assert attempt(seen, 20) == "seen"
