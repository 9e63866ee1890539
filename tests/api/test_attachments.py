"""The attachments of a session: names, places and options of its folders."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxd.api.folders.attachments import attachments
from sandboxd.errors import Invalid, NotFound
from sandboxd.model import Attachment
from sandboxd.store.folders import FolderRow, Permission

from ..each_case import each_case


def row(name: str, permission: Permission = "rw") -> FolderRow:
    return FolderRow(f"id-{name}", name, "me", 1 << 30, permission, "general", False, 1.0, "READY")


KNOWN = {name: row(name) for name in "abcdefg"} | {"lib": row("lib", "ro")}
KNOWN |= {row.id: row for row in KNOWN.values()}


def find(ref: str) -> FolderRow:
    if ref not in KNOWN:
        raise NotFound("virtual folder", ref)
    return KNOWN[ref]


def attach(
    *names: Any, places: dict[str, Any] | None = None, options: dict[str, Any] | None = None
) -> tuple[Attachment, ...]:
    return attachments(list(names), places or {}, options or {}, find)


def test_folder_is_attached_under_its_own_name() -> None:
    assert attach("a", "b") == (Attachment("id-a", "a"), Attachment("id-b", "b"))
    assert attach() == ()


@pytest.mark.parametrize("place", ["data", "/home/work/data", "data/", "/home/work/data/"])
def test_place_of_a_folder_is_a_name_in_home_work(place: str) -> None:
    assert attach("a", places={"a": place}) == (Attachment("id-a", "data"),)


@pytest.mark.parametrize("place", [None, ""])
def test_empty_place_is_the_name_of_the_folder(place: Any) -> None:
    assert attach("a", places={"a": place}) == (Attachment("id-a", "a"),)


@each_case(
    "place",
    ["/data", "/home/work", "/home/work/", "..", "../x", "/home/work/../x", "a/b", "/home/work/a/b",
     "/etc", "/tmp", ".", ".bashrc", "x" * 65, "a b", "a\0", "한글", "/home/work//a", 7, ["a"]],
)  # fmt: skip
def test_place_that_is_not_a_name_in_home_work_is_refused(place: Any) -> None:
    with pytest.raises(Invalid):
        attach("a", places={"a": place})


def test_attachment_is_read_only_by_option_or_by_the_folders_permission() -> None:
    (attachment,) = attach("a", options={"a": {"permission": "ro"}})
    assert attachment.read_only
    assert [m.read_only for m in attach("lib", "a", options={"a": {"permission": "wd"}})] == [
        True,
        False,
    ]


@each_case(
    "options",
    [{"a": {"permission": "root"}}, {"a": {"permission": 7}}, {"a": "ro"}, {"b": {}}, {"a": []},
     {"lib": {"permission": "rw"}}],
)  # fmt: skip
def test_mount_options_that_are_not_possible_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        attach("a", "lib", options=options)


@each_case(
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
def test_attachments_that_exclude_each_other_are_refused(names: list[Any], places: Any) -> None:
    with pytest.raises(Invalid):
        attach(*names, places=places)


def test_five_folders_can_be_attached() -> None:
    assert len(attach(*"abcde")) == 5


def test_unknown_folder_is_not_found() -> None:
    with pytest.raises(NotFound):
        attach("a", "nobodys")
