"""Rows and goals: met, not met, not measured."""

from __future__ import annotations

from scripts.benchmark.groups import GROUPS
from scripts.benchmark.rows import GOALS, Row, goal_row, unmeasured

from ..each_case import each_case


@each_case(
    ("key", "value", "met"),
    [
        ("warm", 0.99, True), ("warm", 1.0, True), ("warm", 1.01, False),
        ("rate-warm", 1.3, True), ("rate-warm", 1.29, False), ("rate-warm", 9.0, True),
        ("idle", 0, True), ("idle", 1, False), ("warm", None, None),
    ],
)  # fmt: skip
def test_goal_is_met_at_its_bound_and_on_the_right_side(
    key: str, value: float | None, met: bool | None
) -> None:
    assert goal_row(key, value).met is met


def test_row_without_a_goal_is_neither_met_nor_missed() -> None:
    assert Row("something", "a figure", value=1.0).met is None


def test_each_goal_has_a_group_and_a_key_of_its_own() -> None:
    assert {goal.group for goal in GOALS} <= set(GROUPS)
    assert len({goal.key for goal in GOALS}) == len(GOALS)


def test_goal_of_a_measured_group_always_has_a_row() -> None:
    row = goal_row("cpu-warm", 3.0)
    missing = unmeasured({"cpu"}, [row])
    assert [(one.key, one.value, one.met) for one in missing] == [("cpu-fresh", None, None)]
    everything = unmeasured(set(GROUPS), [])
    assert [one.key for one in everything] == [goal.key for goal in GOALS]
