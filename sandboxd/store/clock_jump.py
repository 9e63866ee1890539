"""Stored times when the host's clock is set: they are moved with it.

A machine that boots without a clock of its own believes in some year long past until the network
tells it better, and an administrator corrects an hour or a day. What is stored are dates of the
clock as it was; left alone, every session would be older then by what the clock was wrong, and
would end for it. Each function is one transaction and blocks on the disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from .database import Database
from .sessions import SessionRow


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The clock was set by `by` seconds, at most `ago` seconds ago, and says `now`; dates are in
    seconds since 1970."""

    by: float
    now: float
    ago: float = 0.0

    def moved(self, date: float) -> float:
        """A date as the clock would have told it, had it always been set so. No I/O.

        One that can have been noted since the step stays: too late a date lets a session live
        longer, too early a one ends it.
        """
        if self.now - self.ago <= date <= self.now:
            return date
        return date + self.by

    def moved_row(self, row: SessionRow) -> SessionRow:
        """All dates of a session. No I/O."""
        return replace(
            row,
            created_at=self.moved(row.created_at),
            used_at=self.moved(row.used_at),
            done_at=None if row.done_at is None else self.moved(row.done_at),
            history={status: self.moved(date) for status, date in row.history.items()},
        )


def seen(database: Database) -> float:
    """The date of the last `note`; 0.0: there was none."""
    with database.transaction() as connection:
        return float(connection.execute("SELECT seen FROM clock").fetchone()[0])


def note(database: Database, now: float) -> None:
    """The clock has been seen to say `now`."""
    with database.transaction() as connection:
        connection.execute("UPDATE clock SET seen = ?", (now,))


def move(database: Database, step: ClockJump) -> None:
    """The clock was set: move the dates of sessions that are not over, and of runs."""
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT id, created_at, used_at, done_at, history FROM sessions "
            "WHERE status <> 'TERMINATED'"
        ).fetchall()
        for id, created_at, used_at, done_at, history in rows:
            row = SessionRow(id, "", "", "", "", created_at, used_at=used_at, done_at=done_at,
                      history=json.loads(history))  # fmt: skip
            row = step.moved_row(row)
            connection.execute(
                "UPDATE sessions SET created_at = ?, used_at = ?, done_at = ?, history = ? "
                "WHERE id = ?",
                (row.created_at, row.used_at, row.done_at, json.dumps(row.history), id),
            )
        for session, number, date in connection.execute(
            "SELECT session, number, ended_at FROM runs WHERE ended_at IS NOT NULL"
        ).fetchall():
            connection.execute(
                "UPDATE runs SET ended_at = ? WHERE session = ? AND number = ?",
                (step.moved(date), session, number),
            )
        connection.execute("UPDATE clock SET seen = ?", (step.now,))
