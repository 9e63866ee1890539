"""The two clocks of the watch are read at one moment."""

from __future__ import annotations

import time

import pytest

from sandboxd.api.sessions.clock_watch import clocks


@pytest.mark.parametrize("look", ["the date", "the seconds"])
def test_pause_between_the_looks_is_no_setting_of_the_clock(
    monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    running, pauses = 0.0, [50.0]

    def stop_behind(this: str) -> None:
        nonlocal running
        if this == look and pauses:
            running += pauses.pop()

    def date() -> float:
        now = 1000.0 + running
        stop_behind("the date")
        return now

    def seconds(clock: int) -> float:
        now = running
        stop_behind("the seconds")
        return now

    monkeypatch.setattr(time, "time", date)
    monkeypatch.setattr(time, "clock_gettime", seconds)
    now, since_boot = clocks()
    assert now - since_boot == 1000.0 and not pauses
