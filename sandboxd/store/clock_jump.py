"""A jump of the host's clock, and the shift of the stored dates by it.

A machine that boots without a clock of its own has some year long past until the network sets the
clock, and an administrator may correct an hour or a day. The stored dates are of the clock as it
was; without a shift every session would be older by the error of the clock, and would end for it.
Each function is one transaction and blocks on the disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from .database import Database
from .sessions import SessionRow


@dataclass(frozen=True, slots=True)
class ClockJump:
    """A setting of the clock by `by` seconds, at most `ago` seconds before `now`; dates are in
    seconds since 1970."""

    by: float
    now: float
    ago: float = 0.0

    def shifted(self, date: float) -> float:
        """A date by the clock as it is now. No I/O.

        A date that can have been noted since the jump stays: too late a date lets a session live
        longer, too early a date ends it.
        """
        if self.now - self.ago <= date <= self.now:
            return date
        return date + self.by

    def shifted_row(self, row: SessionRow) -> SessionRow:
        """The row with all its dates shifted. No I/O."""
        return replace(
            row,
            created_at=self.shifted(row.created_at),
            used_at=self.shifted(row.used_at),
            renewed_at=self.shifted(row.renewed_at),
            done_at=None if row.done_at is None else self.shifted(row.done_at),
            history={status: self.shifted(date) for status, date in row.history.items()},
        )


def seen(database: Database) -> float:
    """The date of the last `note`; 0.0: there is none."""
    with database.transaction() as connection:
        return float(connection.execute("SELECT seen FROM clock").fetchone()[0])


def note(database: Database, now: float) -> None:
    """Note that the date is `now`."""
    with database.transaction() as connection:
        connection.execute("UPDATE clock SET seen = ?", (now,))


def shift(database: Database, jump: ClockJump) -> None:
    """Shift the dates of sessions that are not over, and of runs."""
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT id, created_at, used_at, done_at, renewed_at, history FROM sessions "
            "WHERE status <> 'TERMINATED'"
        ).fetchall()
        for id, created_at, used_at, done_at, renewed_at, history in rows:
            row = SessionRow(id, "", "", "", "", created_at, used_at=used_at, done_at=done_at,
                      renewed_at=renewed_at, history=json.loads(history))  # fmt: skip
            row = jump.shifted_row(row)
            dates = (row.created_at, row.used_at, row.done_at, row.renewed_at)
            connection.execute(
                "UPDATE sessions SET created_at = ?, used_at = ?, done_at = ?, renewed_at = ?, "
                "history = ? WHERE id = ?",
                (*dates, json.dumps(row.history), id),
            )
        for session, number, date in connection.execute(
            "SELECT session, number, ended_at FROM runs WHERE ended_at IS NOT NULL"
        ).fetchall():
            connection.execute(
                "UPDATE runs SET ended_at = ? WHERE session = ? AND number = ?",
                (jump.shifted(date), session, number),
            )
        connection.execute("UPDATE clock SET seen = ?", (jump.now,))
