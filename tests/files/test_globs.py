"""Patterns for names: the rules of "**" against a simple reference, and hostile patterns."""

from __future__ import annotations

import fnmatch
import itertools

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.errors import Invalid
from sandboxd.files import globs
from sandboxd.files.globs import PATTERNS_BYTES_MAX, PATTERNS_MAX, Pattern, patterns

from ..each_case import each_case

PARTS = st.sampled_from(["a", "b", "ab", "*", "?", "a*", "*b", "[ab]", "[!a]", "**", "a**"])
COMPONENTS = st.sampled_from(["a", "b", "ab", "ba", "abab", "*", "**", "[ab]"])


def fits(pattern: list[str], name: tuple[str, ...]) -> bool:
    """The reference: "**" is no directory, or one more."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return fits(pattern[1:], name) or (bool(name) and fits(pattern, name[1:]))
    return bool(name) and fnmatch.fnmatchcase(name[0], pattern[0]) and fits(pattern[1:], name[1:])


@hypothesis.given(st.lists(PARTS, min_size=1, max_size=5), st.lists(COMPONENTS, min_size=1,
                                                                    max_size=5))  # fmt: skip
def test_pattern_matches_what_the_reference_matches(
    parts: list[str], components: list[str]
) -> None:
    name = tuple(components)
    expected = fits(parts, name) or components == parts
    assert Pattern("/".join(parts)).matches(name) == expected


@hypothesis.given(st.lists(PARTS, min_size=1, max_size=4), st.lists(COMPONENTS, min_size=1,
                                                                    max_size=3))  # fmt: skip
def test_directory_above_a_match_is_entered(parts: list[str], components: list[str]) -> None:
    pattern = Pattern("/".join(parts))
    if pattern.matches(tuple(components)):
        for depth in range(1, len(components)):
            assert pattern.may_match_below(tuple(components[:depth]))


def test_directory_that_cannot_have_a_match_is_not_entered() -> None:
    assert not Pattern("a/*.txt").may_match_below(("b",))
    assert not Pattern("a/*.txt").may_match_below(("a", "x"))
    assert Pattern("a/*.txt").may_match_below(("a",))
    assert Pattern("**/x").may_match_below(("any", "thing"))


@each_case(
    ("text", "name"),
    [("a[1].txt", "a[1].txt"), ("*", "*"), ("a//./b/", "a/b"), ("*", ".hidden"), ("*", "\udcff"),
     ("*", "a\nb"), ("**/*.c", "x.c"), ("**/*.c", "a/b/x.c"), ("a/**", "a/b/c"), ("a/**", "a"),
     ("[[]x", "[x"), ("é?", "éé")],
)  # fmt: skip
def test_pattern_matches_the_name(text: str, name: str) -> None:
    assert Pattern(text).matches(tuple(name.split("/")))


@each_case(
    ("text", "name"),
    [("*", "a/b"), ("?", "ab"), ("a", "A"), ("*.c", "xc"), ("a*", "ba"), ("**/x", "a/b")],
)
def test_pattern_does_not_match_the_name(text: str, name: str) -> None:
    assert not Pattern(text).matches(tuple(name.split("/")))


@each_case(
    "text",
    ["", ".", "/", "/home/work/x", "../x", "a/../b", "..", "a\0b", "x" * 256, "/".join("a" * 300),
     "**/" * 9 + "x"],
)  # fmt: skip
def test_text_that_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Pattern(text)


def test_patterns_of_a_request_are_bounded() -> None:
    assert len(patterns([f"p{number}" for number in range(PATTERNS_MAX)])) == PATTERNS_MAX
    with pytest.raises(Invalid):
        patterns([f"p{number}" for number in range(PATTERNS_MAX + 1)])
    long = ["/".join([letter * 200] * 4) for letter in "abcdefghijkl"]
    assert sum(map(len, long)) > PATTERNS_BYTES_MAX
    with pytest.raises(Invalid):
        patterns(long)
    assert len(patterns(["a", "a"])) == 1


def test_hostile_pattern_takes_no_time_without_end() -> None:
    """Matched by trying all ways, each of these would take years."""
    stars = Pattern("*a" * 120 + "b")
    directories = Pattern("/".join(["**", "*a*"] * 8 + ["b"]))
    name = tuple("a" * 20 for _ in itertools.repeat(None, 250))
    assert not stars.matches(("a" * 255,))
    assert not directories.matches(name)
    assert directories.may_match_below(name)


def test_patterns_that_would_match_for_hours_are_refused_for_all_of_their_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deep = tuple(["d"] * 250)
    monkeypatch.setattr(globs, "STEPS_MAX", 20_000)
    one, other = patterns([f"**/*/**/*/**/*/**/?{number:02}" for number in range(2)])
    one.matches(deep)
    with pytest.raises(Invalid, match="too much work"):
        for number in range(20):
            other.may_match_below((str(number), *deep))
    with pytest.raises(Invalid, match="too much work"):
        one.matches(("short",))
    anchored = Pattern("x/**")
    for _ in range(1000):
        assert not anchored.matches(deep)  # nothing below "d" is compared
        assert not anchored.matches(("other",))


def test_long_components_count_by_the_work_that_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(globs, "STEPS_MAX", 1000)
    long = Pattern("*" + "a" * 126 + "b" + "a" * 100)
    with pytest.raises(Invalid, match="too much work"):
        for _ in range(10):
            long.matches(("a" * 255,))
