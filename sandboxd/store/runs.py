"""The rows of the runs table: the plan of each run, by which the run survives the daemon.

A row is there before the client hears that its run was accepted, and stays as long as the client
can ask for the run. The result of a run is in its files, which its shim writes; the row says only
whether the run has begun and whether it has been accounted for. Each function is one transaction
and blocks on the disk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .database import Database


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a session.

    number    of the session's runs, in their order
    id        as the client knows it
    plan      JSON: its Plan without standard input
    stdin     of exec; None: typed
    boot      the kernel's boot id when the run was accepted
    ended_at  seconds since 1970; None: it is not over, or its end has not been noted
    begun     the daemon was about to have it started; a new run: it is
    """

    session: str
    number: int
    id: str
    plan: str
    stdin: bytes | None
    boot: str
    ended_at: float | None = None
    begun: bool = False


_COLUMNS = "session, number, id, plan, stdin, boot, ended_at, begun"


def add(
    database: Database,
    session: str,
    now: float,
    rows: Sequence[RunRow],
    replaced: Sequence[int] = (),
) -> list[int]:
    """Add runs of `session` at `now`, in place of those with the numbers `replaced`; the numbers
    of the new runs, none of which was used before. Raises KeyError when there is no such session.
    """
    with database.transaction() as connection:
        last = connection.execute(
            "UPDATE sessions SET runs = runs + ?, used_at = ? WHERE id = ? RETURNING runs",
            (len(rows), now, session),
        ).fetchone()
        if last is None:
            raise KeyError(session)
        first = int(last[0]) - len(rows) + 1
        numbers = list(range(first, first + len(rows)))
        if replaced:
            _remove(connection, session, replaced)
        connection.executemany(
            f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL, ?)",
            [
                (session, number, each.id, each.plan, each.stdin, each.boot, each.begun)
                for number, each in zip(numbers, rows, strict=True)
            ],
        )
        return numbers


def number(database: Database, session: str, now: float) -> int:
    """A number for a run at `now` that is not to outlive the daemon. Raises KeyError."""
    with database.transaction() as connection:
        last = connection.execute(
            "UPDATE sessions SET runs = runs + 1, used_at = ? WHERE id = ? RETURNING runs",
            (now, session),
        ).fetchone()
    if last is None:
        raise KeyError(session)
    return int(last[0])


def all_rows(database: Database) -> dict[str, list[RunRow]]:
    """Every run by its session, in their order."""
    rows: dict[str, list[RunRow]] = {}
    with database.transaction() as connection:
        for values in connection.execute(f"SELECT {_COLUMNS} FROM runs ORDER BY session, number"):
            row = RunRow(*values)
            # SQLite has 0 and 1 for a boolean, which the warden does not take for one.
            rows.setdefault(row.session, []).append(replace(row, begun=bool(row.begun)))
    return rows


def begun(database: Database, session: str, number: int, begun: bool = True) -> None:
    """Note that a run is being started, or that it waits after all. With the note that it was
    begun it is not started again after a boot."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE runs SET begun = ? WHERE session = ? AND number = ?", (begun, session, number)
        )


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of a run that is over and accounted for.

    plan    gives the part that is still wanted, when it is written
    values  of its session's row from now on
    """

    number: int
    ended_at: float
    plan: Callable[[], str]
    values: Mapping[str, object]


def ended(
    database: Database, session: str, ends: Sequence[RunEnd], removed: Collection[int] = ()
) -> None:
    """Note that runs of `session` are over, and remove runs. The row of a run that is over has no
    input."""
    rows = [
        (end.ended_at, end.plan(), session, end.number) for end in ends if end.number not in removed
    ]
    values = {name: value for end in ends for name, value in end.values.items()}
    stored = [json.dumps(v) if isinstance(v, dict) else v for v in values.values()]
    with database.transaction() as connection:
        connection.executemany(
            "UPDATE runs SET ended_at = ?, plan = ?, stdin = iif(stdin IS NULL, NULL, x'') "
            "WHERE session = ? AND number = ?",
            rows,
        )
        if values:
            marks = ", ".join(f"{name} = ?" for name in values)
            connection.execute(f"UPDATE sessions SET {marks} WHERE id = ?", [*stored, session])
        _remove(connection, session, removed)


def remove(database: Database, session: str, numbers: Iterable[int]) -> None:
    """Remove runs."""
    with database.transaction() as connection:
        _remove(connection, session, numbers)


def _remove(connection: sqlite3.Connection, session: str, numbers: Iterable[int]) -> None:
    connection.executemany(
        "DELETE FROM runs WHERE session = ? AND number = ?",
        [(session, number) for number in numbers],
    )
