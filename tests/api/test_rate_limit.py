"""The window rolls: exactly so many requests in any stretch of its length."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from sandboxd.api.access.rate_limit import WINDOW_S, RateLimiter


def test_requests_use_up_the_window_and_leave_it_one_by_one() -> None:
    rates = RateLimiter()
    assert [rates.count("AK", 3, now).remaining for now in (0.0, 10.0, 20.0)] == [2, 1, 0]
    over = rates.count("AK", 3, 100.5)
    assert (over.remaining, over.wait_s) == (0, WINDOW_S - 100)
    assert rates.count("AK", 3, WINDOW_S).wait_s == 0
    assert rates.count("AK", 3, WINDOW_S).wait_s == 11
    assert rates.count("AK", 3, WINDOW_S + 10).wait_s == 0


def test_requests_of_one_keypair_do_not_count_for_another() -> None:
    rates = RateLimiter()
    rates.count("AK1", 1, 0)
    assert rates.count("AK2", 1, 0).wait_s == 0
    assert rates.count("AK1", 1, 0).wait_s > 0


@hypothesis.given(st.lists(st.floats(0, 400), max_size=60), st.integers(1, 8))
def test_no_window_has_more_than_the_limit_and_none_is_refused_within_it(
    steps: list[float], limit: int
) -> None:
    rates, now = RateLimiter(), 0.0
    counted: list[float] = []
    for step in steps:
        now += step
        within = [time for time in counted if time > now - WINDOW_S]
        rate = rates.count("AK", limit, now)
        assert bool(rate.wait_s) == (len(within) >= limit)
        if not rate.wait_s:
            counted.append(now)
            assert rate.remaining == limit - len(within) - 1
