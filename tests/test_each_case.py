"""The loop over cases: each case is tried, a failure names its case, and no case is a mistake."""

from __future__ import annotations

import inspect

import pytest

from .each_case import each_case


def test_each_case_is_tried_with_its_values_and_the_fixtures() -> None:
    seen = []

    @each_case("sign", "+-")
    @each_case("word, length", [("a", 1), ("bc", 2)])
    def test(fixture: str, word: str, length: int, sign: str) -> None:
        seen.append((fixture, sign, word, length))

    assert list(inspect.signature(test).parameters) == ["fixture"]
    test(fixture="f")
    assert seen == [("f", sign, *each) for sign in "+-" for each in (("a", 1), ("bc", 2))]


def test_failure_names_its_case_and_is_the_failure_of_the_test() -> None:
    @each_case(("number",), [1, 2, 3])
    def test(number: int) -> None:
        assert number != 2

    with pytest.raises(AssertionError) as failure:
        test()
    assert failure.value.__notes__ == ["the case: {'number': 2}"]


def test_rule_without_a_case_is_a_mistake_and_so_is_a_case_of_another_length() -> None:
    with pytest.raises(ValueError):
        each_case("number", [])
    with pytest.raises(ValueError):
        each_case("one, two", [(1, 2, 3)])
