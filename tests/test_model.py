"""The clamp of limits to the ceilings, and the report of it."""

from __future__ import annotations

from dataclasses import replace

from sandboxd.config.settings import STEP_LIMITS


def test_clamp_lowers_only_what_is_above() -> None:
    limits, low = replace(STEP_LIMITS, wall_s=100, pids=10).clamped(
        replace(STEP_LIMITS, wall_s=60, pids=20)
    )
    assert (limits.wall_s, limits.pids) == (60, 10)
    assert low == ["wall_s"]


def test_limits_within_the_ceiling_are_not_clamped() -> None:
    assert STEP_LIMITS.clamped(STEP_LIMITS) == (STEP_LIMITS, [])
