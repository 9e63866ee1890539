"""The rows of the sessions table. Each function is one transaction and blocks on the disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .database import Database

State = Literal["PREPARING", "RUNNING", "TERMINATING"]


@dataclass(frozen=True, slots=True)
class Row:
    """One session.

    slot        leased number; None while the warden prepares it
    limits      fields of model.Limits that were asked for and granted
    created_at  seconds since 1970
    runs        number of the last run; numbers are never used again
    """

    id: str
    name: str
    owner: str
    image: str
    runtime: str
    created_at: float
    limits: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    slot: int | None = None
    status: State = "PREPARING"
    runs: int = 0


_COLUMNS = "id, name, owner, image, runtime, created_at, limits, environ, slot, status, runs"


def all_rows(database: Database) -> list[Row]:
    """Every session, oldest first."""
    with database.transaction() as connection:
        found = connection.execute(f"SELECT {_COLUMNS} FROM sessions ORDER BY created_at, id")
        rows = [Row(*values) for values in found]
    return [
        replace(row, limits=json.loads(str(row.limits)), environ=json.loads(str(row.environ)))
        for row in rows
    ]


def add(database: Database, row: Row) -> None:
    """A new session. Raises sqlite3.IntegrityError when the owner has one of that name."""
    values = (
        row.id, row.name, row.owner, row.image, row.runtime, row.created_at,
        json.dumps(row.limits), json.dumps(row.environ), row.slot, row.status, row.runs,
    )  # fmt: skip
    marks = ", ".join("?" * len(values))
    with database.transaction() as connection:
        connection.execute(f"INSERT INTO sessions ({_COLUMNS}) VALUES ({marks})", values)


def leased(database: Database, id: str, slot: int) -> None:
    """The session has its slot and runs."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE sessions SET slot = ?, status = 'RUNNING' WHERE id = ?", (slot, id)
        )


def next_run(database: Database, id: str) -> int:
    """A number for a run that the session has not used before. Raises KeyError."""
    with database.transaction() as connection:
        found = connection.execute(
            "UPDATE sessions SET runs = runs + 1 WHERE id = ? RETURNING runs", (id,)
        ).fetchone()
    if found is None:
        raise KeyError(id)
    return int(found[0])


def terminating(database: Database, id: str) -> None:
    """The session is about to be destroyed: it will not be taken up again after a restart."""
    with database.transaction() as connection:
        connection.execute("UPDATE sessions SET status = 'TERMINATING' WHERE id = ?", (id,))


def remove(database: Database, id: str) -> None:
    """The session is gone."""
    with database.transaction() as connection:
        connection.execute("DELETE FROM sessions WHERE id = ?", (id,))
