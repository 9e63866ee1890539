"""The rows of the runs table: what each run was asked to do, so that it survives the daemon.

A row is there before the client is told that its run was accepted, and stays as long as the run
can be asked for. What became of a run is in its files, which its shim writes; here only is
whether it has been accounted for. Each function is one transaction and blocks on the disk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .database import Database


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a session.

    number    of the session's runs, in their order
    id        as the client knows it
    plan      JSON: what it does, but for its standard input
    stdin     of exec; None: typed
    boot      the kernel's boot id when the run was accepted
    ended_at  seconds since 1970; None: it is not over, or its end has not been noted
    begun     it was to be started
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
    orders: Sequence[RunRow],
    instead: Iterable[int] = (),
) -> list[int]:
    """New runs of `session` at `now`, `instead` of those of these numbers; the numbers that they
    have instead of their own, none of which was used before. Raises KeyError when there is no
    such session."""
    with database.transaction() as connection:
        found = connection.execute(
            "UPDATE sessions SET runs = runs + ?, used_at = ? WHERE id = ? RETURNING runs",
            (len(orders), now, session),
        ).fetchone()
        if found is None:
            raise KeyError(session)
        first = int(found[0]) - len(orders) + 1
        numbers = list(range(first, first + len(orders)))
        _remove(connection, session, instead)
        connection.executemany(
            f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL, 0)",
            [
                (session, number, each.id, each.plan, each.stdin, each.boot)
                for number, each in zip(numbers, orders, strict=True)
            ],
        )
        return numbers


def number(database: Database, session: str, now: float) -> int:
    """A number for a run at `now` that is not to outlive the daemon. Raises KeyError."""
    with database.transaction() as connection:
        found = connection.execute(
            "UPDATE sessions SET runs = runs + 1, used_at = ? WHERE id = ? RETURNING runs",
            (now, session),
        ).fetchone()
    if found is None:
        raise KeyError(session)
    return int(found[0])


def all_orders(database: Database) -> dict[str, list[RunRow]]:
    """Every run by its session, in their order."""
    found: dict[str, list[RunRow]] = {}
    with database.transaction() as connection:
        for values in connection.execute(f"SELECT {_COLUMNS} FROM runs ORDER BY session, number"):
            found.setdefault(values[0], []).append(RunRow(*values))
    return found


def begun(database: Database, session: str, number: int) -> None:
    """The run is being started: after a boot it is not started again, whatever is left of it."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE runs SET begun = 1 WHERE session = ? AND number = ?", (session, number)
        )


def ended(database: Database, /, session: str, number: int, now: float, **values: object) -> None:
    """The run is over and accounted for: its session's row has `values`."""
    marks = ", ".join(f"{name} = ?" for name in values)
    stored = [json.dumps(v) if isinstance(v, dict) else v for v in values.values()]
    with database.transaction() as connection:
        connection.execute(
            "UPDATE runs SET ended_at = ? WHERE session = ? AND number = ?", (now, session, number)
        )
        connection.execute(f"UPDATE sessions SET {marks} WHERE id = ?", [*stored, session])


def remove(database: Database, session: str, numbers: Iterable[int]) -> None:
    """The runs are forgotten."""
    with database.transaction() as connection:
        _remove(connection, session, numbers)


def _remove(connection: sqlite3.Connection, session: str, numbers: Iterable[int]) -> None:
    connection.executemany(
        "DELETE FROM runs WHERE session = ? AND number = ?",
        [(session, number) for number in numbers],
    )
