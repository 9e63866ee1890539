"""Exemptions from checks, with and without a reason on the line."""

from __future__ import annotations

from scripts.measures import exemptions

from .sample import Count, source

EXEMPT = """
    a = f()  # type: ignore[misc]
    b = f()  # type: ignore[misc]  # the library has no types
    c = f()  # noqa: B023, E501
    d = f()  # noqa: B023  # over before the next
    try:
        pass
    except (OSError, BaseException):
        raise
    try:
        pass
    except Exception:  # a mistake of the test
        pass
    try:
        pass
    except:
        raise
    except MyException:
        pass
    pytest.skip("no gcc here")
    pytest.mark.skipif(True)
    pytest.mark.skipif(True, reason="no node here")
    pytest.mark.skip
    other.skip()
"""


def test_exemptions_count_and_those_without_a_reason_again() -> None:
    tree = source(EXEMPT, "tests/a.py")
    counts: list[Count] = [exemptions.type_ignores, exemptions.noqas, exemptions.broad_excepts]
    lines = [[place.line for place in count(tree)] for count in counts]
    assert [sorted(each) for each in lines] == [[2, 3], [4, 5], [8, 12, 16]]
    assert sorted(place.line for place in exemptions.skips(tree)) == [20, 21, 22, 23]
    assert sorted(p.line for p in exemptions.unexplained(tree)) == [2, 4, 8, 16, 21, 23]


def test_a_directive_in_a_string_is_none() -> None:
    good = source("x = '# noqa: E501'\ny = '# type: ignore'", "tests/a.py")
    assert [*exemptions.type_ignores(good), *exemptions.noqas(good)] == []
