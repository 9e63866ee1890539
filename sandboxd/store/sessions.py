"""The rows of the sessions table. Each function is one transaction and blocks on the disk.

A row outlives its session: with the status TERMINATED it has the session's result, until newer
rows push it out (`ended`).
"""

from __future__ import annotations

import functools
import json
import sqlite3
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from ..model import Attachment, NetworkGrant, Workspace
from .database import Database

State = Literal["PENDING", "PREPARING", "RUNNING", "TERMINATING", "TERMINATED"]
Result = Literal["UNDEFINED", "SUCCESS", "FAILURE"]

LOG_MAX = 65536
"""Characters of the console that are stored of a session that is over."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session.

    slot         leased number; None while the warden prepares it and after its end
    limits       fields of model.Limits that the client set, none above the ceiling
    created_at, used_at, renewed_at   seconds since 1970; the last two a minute old at most
    runs         number of the last run; numbers are never used again
    type         interactive, or batch: it ends with its startup_command
    status_info  a remark about the status, or ""
    result, exit_code, done_at   of the startup_command
    usage        sums over the runs that have ended: runs, wall_ms, cpu_ms; mem_peak is the most
    history      seconds since 1970 of the begin of each status
    mounts       its attachments of virtual folders
    idle_s       seconds without use after which it ends, as its client wants it; 0: as configured
    network      the hosts that its runs may reach; None: none
    ttl_s        seconds after renewed_at when it ends, unless its holder renews it; 0: it has none
    workspace    the directory of the host that it sees, if it has one
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
    type: str = "interactive"
    tag: str = ""
    startup_command: str = ""
    bootstrap_script: str = ""
    status_info: str = ""
    result: Result = "UNDEFINED"
    exit_code: int | None = None
    done_at: float | None = None
    used_at: float = 0.0
    usage: dict[str, int] = field(default_factory=dict)
    history: dict[str, float] = field(default_factory=dict)
    mounts: tuple[Attachment, ...] = ()
    idle_s: float = 0.0
    network: NetworkGrant | None = None
    ttl_s: float = 0.0
    renewed_at: float = 0.0
    workspace: Workspace | None = None


_FIELDS = tuple(each.name for each in fields(SessionRow))
BLANK = {"environ": "{}", "startup_command": "", "bootstrap_script": ""}
"""The fields that may have secrets, with their values once the session is over. They are in a table
of their own, which can be overwritten as a whole (secret_removal.py)."""

_COLUMNS = ", ".join(
    f"coalesce(secrets.{name}, sessions.{name})" if name in BLANK else name for name in _FIELDS
)
_JSON = ("limits", "environ", "usage", "history", "mounts", "network", "workspace")


def all_rows(database: Database) -> list[SessionRow]:
    """Every session that is not over, oldest first."""
    return _select(database, "status <> 'TERMINATED' ORDER BY created_at, id")


def ended_rows(database: Database, owner: str | None = None) -> list[SessionRow]:
    """The sessions that are over, newest first; of one owner, or of all."""
    whose = "status = 'TERMINATED' AND owner = coalesce(?, owner)"
    return _select(database, f"{whose} ORDER BY created_at DESC, id", owner)


def ended_row(database: Database, owner: str, ref: str) -> SessionRow | None:
    """The owner's session of this UUID that is over, else the newest of this name."""
    whose = "status = 'TERMINATED' AND owner = ? AND (id = ? OR name = ?)"
    order = "ORDER BY id = ? DESC, created_at DESC LIMIT 1"
    id = ref.lower()
    return next(iter(_select(database, f"{whose} {order}", owner, id, ref, id)), None)


def _select(database: Database, where: str, *values: Any) -> list[SessionRow]:
    with database.transaction() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM sessions LEFT JOIN secrets ON session = id WHERE {where}",
            values,
        )
        return [_row(columns) for columns in rows]


def _row(columns: tuple[Any, ...]) -> SessionRow:
    values = dict(zip(_FIELDS, columns, strict=True))
    values |= {name: json.loads(values[name]) for name in _JSON}
    changed = {
        "mounts": tuple(Attachment(**one) for one in values["mounts"]),
        "network": _network(values["network"]),
        "workspace": Workspace(**values["workspace"]) if values["workspace"] else None,
    }
    return SessionRow(**values | changed)


def _network(grant: dict[str, Any] | None) -> NetworkGrant | None:
    return NetworkGrant(**grant | {"hosts": tuple(grant["hosts"])}) if grant else None


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    json_of = functools.partial(json.dumps, default=asdict)
    return {name: json_of(value) if name in _JSON else value for name, value in values.items()}


def add(database: Database, row: SessionRow) -> None:
    """Add a session. Raises sqlite3.IntegrityError when the owner has one of that name."""
    values = _stored({name: getattr(row, name) for name in _FIELDS})
    secrets = {"session": row.id} | {name: values[name] for name in BLANK}
    with database.transaction() as connection:
        _insert(connection, "sessions", values | BLANK)
        _insert(connection, "secrets", secrets)


def _insert(connection: sqlite3.Connection, table: str, values: dict[str, Any]) -> None:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))


def change(database: Database, /, row: SessionRow, **values: Any) -> SessionRow:
    """Store other values; `row` with them. Columns that others have changed meanwhile stay; the
    fields of BLANK never change.

    Raises sqlite3.IntegrityError for a name that another session of the owner has.
    """
    stored = _stored(values)
    marks = ", ".join(f"{name} = ?" for name in stored)
    with database.transaction() as connection:
        connection.execute(f"UPDATE sessions SET {marks} WHERE id = ?", [*stored.values(), row.id])
    return replace(row, **values)


def move(
    database: Database, /, row: SessionRow, status: State, now: float, **values: Any
) -> SessionRow:
    """Store a new status since `now`; `row` with it."""
    history = {**row.history, status: now}
    return change(database, row, status=status, history=history, **values)


def ended(
    database: Database, /, row: SessionRow, now: float, keep: int, log: str | None = None
) -> None:
    """Note that a session is over. Its row stays among the `keep` newest of its owner, with the
    end of the console text `log`, and without the environment and the commands."""
    move(database, row, "TERMINATED", now, slot=None)
    over = "status = 'TERMINATED' AND owner = ?"
    newest = f"SELECT id FROM sessions WHERE {over} ORDER BY created_at DESC LIMIT ?"
    with database.transaction() as connection:
        if log is not None:
            values = (row.id, log[-LOG_MAX:])
            connection.execute("INSERT OR REPLACE INTO logs VALUES (?, ?)", values)
        connection.execute(
            f"DELETE FROM sessions WHERE {over} AND id NOT IN ({newest})",
            (row.owner, row.owner, keep),
        )
        connection.execute("DELETE FROM logs WHERE session NOT IN (SELECT id FROM sessions)")
        _remove_secrets(database, connection, row.id)


def _remove_secrets(database: Database, connection: sqlite3.Connection, id: str) -> None:
    connection.execute("DELETE FROM secrets WHERE session = ?", (id,))
    connection.execute("DELETE FROM runs WHERE session = ?", (id,))
    database.has_remains = True


def log(database: Database, id: str) -> str:
    """The stored console text of a session that is over."""
    with database.transaction() as connection:
        row = connection.execute("SELECT text FROM logs WHERE session = ?", (id,)).fetchone()
    return str(row[0]) if row else ""


def remove(database: Database, id: str) -> None:
    """Remove a session that was never completed, or is lost."""
    with database.transaction() as connection:
        connection.execute("DELETE FROM sessions WHERE id = ?", (id,))
        _remove_secrets(database, connection, id)


def ids(database: Database) -> set[str]:
    """The UUID of every session that is not over."""
    with database.transaction() as connection:
        rows = connection.execute("SELECT id FROM sessions WHERE status <> 'TERMINATED'")
        return {str(id) for (id,) in rows}
