"""The rate at which output is taken: never more than it says, whatever the program does."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from sandboxd.shim.output_rate import OutputRate

FREE, PER_S, MOST = 1000, 100, 50


@hypothesis.given(st.lists(st.tuples(st.integers(1, MOST), st.floats(0, 100))))
def test_never_more_than_free_and_the_rate(pieces: list[tuple[int, float]]) -> None:
    rate, now, taken = OutputRate(FREE, PER_S), 1e6, []
    for size, quiet in pieces:
        taken.append((now, size))
        now += rate.pause(size, now) + quiet
    for first, (since, _) in enumerate(taken):
        for last in range(first, len(taken)):
            passed = sum(size for _, size in taken[first : last + 1])
            assert passed <= FREE + MOST + (taken[last][0] - since) * PER_S + 1e-3


@hypothesis.given(st.lists(st.integers(1, MOST), max_size=FREE // MOST))
def test_what_is_free_is_not_held_back(sizes: list[int]) -> None:
    rate = OutputRate(FREE, PER_S)
    assert not any(rate.pause(size, 5.0) for size in sizes)


def test_a_flood_gets_the_rate_and_no_less() -> None:
    rate, now, total = OutputRate(FREE, PER_S), 0.0, 0
    while now < 100:
        total += MOST
        now += rate.pause(MOST, now)
    assert FREE + 100 * PER_S <= total <= FREE + 100 * PER_S + 2 * MOST


def test_small_pieces_cost_as_much_as_they_cost_us() -> None:
    rate, now, pieces = OutputRate(FREE, PER_S, least=MOST), 0.0, 0
    while now < 100:
        pieces += 1
        now += rate.pause(1, now)
    assert pieces <= (FREE + 100 * PER_S) / MOST + 2


def test_silence_is_no_credit() -> None:
    rate = OutputRate(FREE, PER_S)
    assert rate.pause(FREE, 0.0) == 0
    assert rate.pause(FREE, 1e6) == 0
    assert rate.pause(PER_S, 1e6) == 1
