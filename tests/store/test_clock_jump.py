"""Stored dates shift with the host's clock when the clock is set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.store import clock_jump, runs, sessions
from sandboxd.store.clock_jump import ClockJump
from sandboxd.store.database import Database
from sandboxd.store.runs import RunRow
from sandboxd.store.sessions import SessionRow

DAY = 86400.0
ROW = SessionRow(
    "1", "name", "local", "c", "c", created_at=1000.0, used_at=3000.0, done_at=2500.0,
    renewed_at=2600.0,
    history={"PREPARING": 1000.0, "RUNNING": 1001.0},
)  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "sandboxd.sqlite"))
    yield database
    database.close()


@hypothesis.given(
    by=st.floats(-1e9, 1e9),
    age=st.floats(0, 1e6),
    ago=st.floats(0, 60),
    start=st.floats(1e9, 2e9),
)
def test_shifted_date_is_no_older_after_a_clock_jump_than_before(
    by: float, age: float, ago: float, start: float
) -> None:
    """`start` is what the old clock would say; a date of it was noted `age` seconds before the
    step, which was `ago` seconds ago."""
    now = start + by
    shifted = ClockJump(by, now, ago).shifted(start - ago - age)
    assert now - shifted <= ago + age + 1e-3


@hypothesis.given(
    by=st.floats(-1e9, 1e9), ago=st.floats(0, 60), start=st.floats(1e9, 2e9), part=st.floats(0, 1)
)
def test_date_that_was_noted_after_a_clock_jump_stays(
    by: float, ago: float, start: float, part: float
) -> None:
    now = start + by
    date = max(now - ago, now - ago * part)
    assert ClockJump(by, now, ago).shifted(date) == date


def test_clock_jump_shifts_the_dates_of_living_sessions_and_no_others(database: Database) -> None:
    over = replace(ROW, id="2", name="over", status="TERMINATED")
    for row in (replace(ROW, status="RUNNING"), over):
        sessions.add(database, row)
    run = RunRow("1", 0, "r", "{}", None, "boot")
    assert runs.add(database, "1", 3000.0, [run, run]) == [1, 2]
    runs.ended(database, "1", [runs.RunEnd(1, 2000.0, lambda: "{}", {"used_at": 3000.0})])
    clock_jump.shift(database, ClockJump(DAY, 3001 + DAY))
    (row,) = sessions.all_rows(database)
    assert (row.created_at, row.used_at, row.done_at) == (1000 + DAY, 3000 + DAY, 2500 + DAY)
    assert row.renewed_at == 2600 + DAY
    assert row.history == {"PREPARING": 1000 + DAY, "RUNNING": 1001 + DAY}
    assert sessions.ended_rows(database) == [over]
    assert [one.ended_at for one in runs.all_rows(database)["1"]] == [2000 + DAY, None]
    assert clock_jump.seen(database) == 3001 + DAY


def test_last_date_of_the_clock_is_stored(database: Database) -> None:
    assert clock_jump.seen(database) == 0
    clock_jump.note(database, 1234.5)
    assert clock_jump.seen(database) == 1234.5
