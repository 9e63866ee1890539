"""The tables: rows as text for people, as JSON for programs, as Markdown for the documents."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from .rows import Curve, Goal, Row
from .summary import percentile

_WIDTH = 46


def text_table(rows: Iterable[Row]) -> str:
    """All rows; of a row with a goal also the goal, and whether it is met."""
    lines = [f"{'':{_WIDTH}}{'median ms':>10}{'p99 ms':>9}  {'measured':<18}{'goal':<10}met"]
    lines += [_line(row) for row in rows]
    return "\n".join(lines)


def _line(row: Row) -> str:
    middle = f"{median(row.times):10.2f}" if row.times else " " * 10
    high = f"{percentile(row.times, 99):9.2f}" if row.times else " " * 9
    bound = goal_text(row.goal) if row.goal else ""
    line = f"{row.text:{_WIDTH}}{middle}{high}  {value_text(row):<18}{bound:<10}{met_text(row)}"
    return f"{line} {_remark(row)}".rstrip()


def _remark(row: Row) -> str:
    """The note beside a figure. Without a figure, `value_text` is the note."""
    return f" ({row.note})" if row.note and row.value is not None else ""


def value_text(row: Row) -> str:
    """The measured figure with its unit, or the reason for its absence."""
    if row.value is None:
        return row.note
    return f"{number(row.value)} {row.unit}".rstrip()


def goal_text(goal: Goal) -> str:
    """The bound with its sign."""
    return f"{goal.sign} {goal.bound:g}"


def met_text(row: Row) -> str:
    """yes or no; a dash where a goal could not be measured."""
    if row.goal is None:
        return ""
    return {True: "yes", False: "no", None: "-"}[row.met]


def number(value: float) -> str:
    """Three digits that count, and no more than two behind the point."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def host() -> dict[str, Any]:
    """The host of these measurements."""
    return {
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def host_text(facts: dict[str, Any]) -> str:
    """The host in one line."""
    python, load = facts["python"], facts["load"]
    return f"Linux {facts['kernel']}, {facts['cores']} cores, Python {python}, load {load} before"


def as_json(
    facts: dict[str, Any],
    rows: Iterable[Row],
    curves: Iterable[Curve],
    sizing: dict[str, str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "host": facts,
        "notes": list(notes),
        "rows": [_json_row(row) for row in rows],
        "curves": [asdict(curve) for curve in curves],
        "sizing": sizing,
    }


def _json_row(row: Row) -> dict[str, Any]:
    goal = row.goal
    return {
        **asdict(row),
        "median": median(row.times) if row.times else None,
        "p99": percentile(row.times, 99) if row.times else None,
        "goal": {"sign": goal.sign, "bound": goal.bound, "unit": goal.unit} if goal else None,
        "met": row.met,
    }


def markdown(
    facts: dict[str, Any], rows: Iterable[Row], sizing: dict[str, str], commit: str
) -> str:
    """The goals and the sizing table, for docs/operations.md."""
    goals = [
        f"| {row.text} | {value_text(row)}{_remark(row)} | {goal_text(goal)} | {met_text(row)} |"
        for row in rows
        if (goal := row.goal) is not None
    ]
    sizes = [f"| {text} | {figure} |" for text, figure in sizing.items()]
    return "\n".join(
        [
            f"Commit `{commit}`. {host_text(facts)}.",
            "",
            "| resource | figure |",
            "|---|---|",
            *sizes,
            "",
            "| goal | measured | bound | met |",
            "|---|---|---|---|",
            *goals,
            "",
        ]
    )
