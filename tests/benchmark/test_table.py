"""The tables for people, programs and documents."""

from __future__ import annotations

import json

import pytest

from scripts.benchmark import document
from scripts.benchmark.rows import Curve, Row, goal_row
from scripts.benchmark.table import as_json, markdown, number, text_table

ROWS = [
    Row("other", "bubblewrap", (4.0, 5.0, 6.0), 5.6, "x bare"),
    goal_row("warm", 0.9, (4.0, 4.5, 9.0)),
    goal_row("whole", 13.8, (60.0,)),
    goal_row("fresh", None, note="bubblewrap is not installed"),
]
FACTS = {"kernel": "6.1", "cores": 2, "python": "3.11.2", "load": 0.1}


def test_table_has_median_percentile_figure_goal_and_outcome_of_each_row() -> None:
    head, *lines = text_table(ROWS).splitlines()
    assert head.split() == ["median", "ms", "p99", "ms", "measured", "goal", "met"]
    assert lines[0].split() == ["bubblewrap", "5.00", "6.00", "5.60", "x", "bare"]
    assert lines[1].endswith("4.50     9.00  0.90 x bwrap      <= 1      yes")
    assert lines[2].endswith("<= 2.5    no")
    assert "bubblewrap is not installed" in lines[3] and lines[3].endswith("-")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (1.1049, "1.10"), (13.84, "13.8"), (249.6, "250")]
)
def test_number_has_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_json_has_all_times_goals_and_curves() -> None:
    curve = Curve("Runs a second", "warm", ((1, 20.0), (8, 50.0)))
    text = json.dumps(as_json(FACTS, ROWS, [curve], {"runs a second": "50"}, ["a note"]))
    everything = json.loads(text)
    warm = everything["rows"][1]
    assert warm["times"] == [4.0, 4.5, 9.0] and warm["median"] == 4.5 and warm["p99"] == 9.0
    assert warm["goal"] == {"sign": "<=", "bound": 1.0, "unit": "x bwrap"} and warm["met"] is True
    assert [row["met"] for row in everything["rows"]] == [None, True, False, None]
    assert everything["curves"][0]["points"] == [[1, 20.0], [8, 50.0]]
    assert everything["host"] == FACTS and everything["notes"] == ["a note"]


def test_markdown_has_a_table_of_sizes_and_one_of_goals() -> None:
    text = markdown(FACTS, ROWS, {"runs a second, warm": "285"}, "abc123")
    assert "| runs a second, warm | 285 |" in text.splitlines()
    assert "| create + run + delete | 13.8 x bwrap | <= 2.5 | no |" in text.splitlines()
    assert "bubblewrap |" not in text  # rows without a goal
    assert "abc123" in text and "Linux 6.1, 2 cores" in text


def test_table_replaces_the_one_between_the_comments_and_nothing_else() -> None:
    text = f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n"
    once = document.replaced(text, "new\n")
    assert once == f"before\n{document.BEGIN}\nnew\n{document.END}\nafter\n"
    assert document.replaced(once, "new\n") == once


@pytest.mark.parametrize("text", ["", "text\n", f"{document.BEGIN}\n", f"{document.END}\n"])
def test_document_without_both_comments_is_not_changed(text: str) -> None:
    assert document.replaced(text, "new\n") is None
