"""Which folders a session gets: names, places, options."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxd.api.folders.attachments import attachments
from sandboxd.errors import Invalid, NotFound
from sandboxd.model import Attachment
from sandboxd.store.folders import FolderRow, Permission


def row(name: str, permission: Permission = "rw") -> FolderRow:
    return FolderRow(f"id-{name}", name, "me", 1 << 30, permission, "general", False, 1.0, "READY")


KNOWN = {name: row(name) for name in "abcdefg"} | {"lib": row("lib", "ro")}
KNOWN |= {found.id: found for found in KNOWN.values()}


def find(ref: str) -> FolderRow:
    if ref not in KNOWN:
        raise NotFound("virtual folder", ref)
    return KNOWN[ref]


def mounts(
    *names: Any, places: dict[str, Any] | None = None, options: dict[str, Any] | None = None
) -> tuple[Attachment, ...]:
    return attachments(list(names), places or {}, options or {}, find)


def test_folder_is_seen_under_its_own_name() -> None:
    assert mounts("a", "b") == (Attachment("id-a", "a"), Attachment("id-b", "b"))
    assert mounts() == ()


@pytest.mark.parametrize("place", ["data", "/home/work/data", "data/", "/home/work/data/"])
def test_place_is_a_name_in_home_work(place: str) -> None:
    assert mounts("a", places={"a": place}) == (Attachment("id-a", "data"),)


@pytest.mark.parametrize("place", [None, ""])
def test_place_left_open_is_the_folders_name(place: Any) -> None:
    assert mounts("a", places={"a": place}) == (Attachment("id-a", "a"),)


@pytest.mark.parametrize(
    "place",
    ["/data", "/home/work", "/home/work/", "..", "../x", "/home/work/../x", "a/b", "/home/work/a/b",
     "/etc", "/tmp", ".", ".bashrc", "x" * 65, "a b", "a\0", "한글", "/home/work//a", 7, ["a"]],
)  # fmt: skip
def test_any_other_place_is_refused(place: Any) -> None:
    with pytest.raises(Invalid):
        mounts("a", places={"a": place})


def test_read_only_is_asked_for_or_the_folders_own() -> None:
    (asked,) = mounts("a", options={"a": {"permission": "ro"}})
    assert asked.read_only
    assert [m.read_only for m in mounts("lib", "a", options={"a": {"permission": "wd"}})] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    "options",
    [{"a": {"permission": "root"}}, {"a": {"permission": 7}}, {"a": "ro"}, {"b": {}}, {"a": []},
     {"lib": {"permission": "rw"}}],
)  # fmt: skip
def test_options_that_cannot_be_had_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        mounts("a", "lib", options=options)


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["a", "a"], {}),
        (["a", "id-a"], {}),
        (["a", "b"], {"a": "b"}),
        (["a", "b"], {"a": "x", "b": "/home/work/x"}),
        (list("abcdef"), {}),
        ([7], {}),
        ([None], {}),
        ([["a"]], {}),
        (["a"], {"b": "c"}),
    ],
)
def test_what_cannot_be_mounted_together_is_refused(names: list[Any], places: Any) -> None:
    with pytest.raises(Invalid):
        mounts(*names, places=places)


def test_five_can_be_mounted() -> None:
    assert len(mounts(*"abcde")) == 5


def test_unknown_folder_is_not_found() -> None:
    with pytest.raises(NotFound):
        mounts("a", "nobodys")
