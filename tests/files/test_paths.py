"""The rules for names, as text."""

from __future__ import annotations

import os
import posixpath

import hypothesis
import pytest
from hypothesis import example
from hypothesis import strategies as st

from sandboxd.errors import Invalid, OutsideHome
from sandboxd.files.paths import COMPONENT_MAX, DEPTH_MAX, NAME_MAX, colliding, inside, naming_file

from ..each_case import each_case

GOOD = {
    "a": ("a",),
    "a/b": ("a", "b"),
    "./a": ("a",),
    "a//b": ("a", "b"),
    "a/./b": ("a", "b"),
    "a/../b": ("b",),
    "/home/work/a": ("a",),
    "//home///work//a": ("a",),
    "/./home/./work/a/../b": ("b",),
    "...": ("...",),
    "..a": ("..a",),
    "-rf": ("-rf",),
    " ": (" ",),
    "a\nb": ("a\nb",),
    "home/work/a": ("home", "work", "a"),
    "%2e%2e": ("%2e%2e",),
    "\udcff": ("\udcff",),
    "..\\x": ("..\\x",),
}
NO_FILE = [
    "/home/work", "/home/work/", "/home/work/.", ".", "./", "a/", "a/.", "a/..", "a/b/..", "a//",
    "/home/work/a/..",
]  # fmt: skip
OUTSIDE = [
    "..", "../", "./..", "../x", "a/../../x", "a/../..", "../work/x", "/", "/home", "/home/",
    "/etc/passwd", "//etc/x", "/home/workevil/x", "/home/worx/x", "/HOME/WORK/x", "/home/work/..",
    "/home/work/../x", "/home/work/../work/x", "/home/../home/work/x", "/home//work/../../x",
    "/home/work/a/../../../etc/x", "/proc/self/root/etc/x", "/dev/shm/x", "home/../../x",
    "../../../../../../tmp/x", "/work", "/..", "/../home/work/x",
]  # fmt: skip
MALFORMED = [
    "", "\0", "a\0b", "x" * 256, "a/" + "é" * 128, "\ud800", "\udc2f", "a/" * DEPTH_MAX + "b",
    "/".join(["y" * 100] * 41), "\ud83d",
]  # fmt: skip


@each_case(("name", "parts"), GOOD.items())
def test_name_inside_gives_its_components(name: str, parts: tuple[str, ...]) -> None:
    assert inside(name) == naming_file(name) == parts


@each_case("name", NO_FILE)
def test_name_of_no_file_is_a_directory_at_best(name: str) -> None:
    inside(name)
    with pytest.raises(Invalid):
        naming_file(name)


@each_case("name", OUTSIDE)
def test_name_that_leaves_is_outside(name: str) -> None:
    for rule in (inside, naming_file):
        with pytest.raises(OutsideHome):
            rule(name)


@each_case("name", MALFORMED)
def test_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        inside(name)
    assert len(str(refused.value)) < 1000
    str(refused.value).encode("ascii")


def test_path_of_the_longest_length_is_accepted_and_one_more_is_refused() -> None:
    assert inside("x" * COMPONENT_MAX)
    assert len(inside("a/" * (DEPTH_MAX - 1) + "b")) == DEPTH_MAX
    longest = "/".join(["y" * 99] * 40 + ["z" * 95])
    assert len(longest) == NAME_MAX
    assert inside(longest)
    with pytest.raises(Invalid):
        inside(longest + "z")


def test_texts_for_the_same_bytes_are_the_same_name() -> None:
    assert inside("\udcc3\udca9") == inside("é")


NAMES = st.lists(
    st.sampled_from(["a", "b", ".", "..", "", "home", "work", "\udcff", "é"]), max_size=8
).map("/".join)


@hypothesis.given(NAMES | NAMES.map(lambda name: "/home/work/" + name))
@example("/home/work")
@example("//home/work/a")
def test_a_name_is_taken_exactly_if_no_prefix_of_it_leaves(name: str) -> None:
    """Against posixpath as the oracle: every prefix has to resolve to below /home/work."""
    top = name.startswith("/")
    pieces = name.split("/")
    base = "/" if top else "/home/work"
    places = [
        posixpath.normpath(posixpath.join(base, *pieces[: n + 1])) for n in range(len(pieces))
    ]
    if top:  # the way down to /home/work is not yet a way out of it
        while places and places[0] in ("/", "//", "/home"):
            places.pop(0)
    places = [place.replace("//", "/") for place in places]
    stays = bool(places) and all(f"{place}/".startswith("/home/work/") for place in places)
    try:
        parts = inside(name)
    except Invalid:
        assert not stays or not name
        return
    assert "/".join(("/home/work", *parts)) == places[-1].rstrip("/")


@hypothesis.given(st.text(max_size=40) | st.binary(max_size=40).map(os.fsdecode))
def test_whatever_is_taken_has_plain_components_only(name: str) -> None:
    try:
        parts = inside(name)
    except Invalid:
        return
    for part in parts:
        assert part not in ("", ".", "..")
        assert "/" not in part
        assert "\0" not in part
    assert inside("/".join(("/home/work", *parts))) == parts


@hypothesis.given(
    st.sets(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(tuple), max_size=6)
)
def test_collision_is_found_exactly_if_a_file_would_be_a_directory(
    names: set[tuple[str, ...]],
) -> None:
    texts = ["/".join(name) for name in names]
    expected = {a for a in texts for b in texts if b.startswith(a + "/")}
    collision = colliding(names)
    assert ("/".join(collision) in expected) if collision else not expected
