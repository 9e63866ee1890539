"""The rows of the folders table. Each function is one transaction and blocks on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .database import Database

State = Literal["MAKING", "READY", "DELETING"]
Permission = Literal["ro", "rw", "wd"]


@dataclass(frozen=True, slots=True)
class FolderRow:
    """One virtual folder.

    size        bytes: its quota
    permission  what sessions may do in it: read (ro), or also write and delete (rw, wd)
    created_at  seconds since 1970
    status      only a READY folder can be used; the creation or removal of others was interrupted
    """

    id: str
    name: str
    owner: str
    size: int
    permission: Permission
    usage_mode: str
    cloneable: bool
    created_at: float
    status: State = "MAKING"


_COLUMNS = "id, name, owner, size, permission, usage_mode, cloneable, created_at, status"


def all_rows(database: Database) -> list[FolderRow]:
    """Every folder, oldest first."""
    with database.transaction() as connection:
        rows = connection.execute(f"SELECT {_COLUMNS} FROM folders ORDER BY created_at, id")
        return [_row(values) for values in rows]


def _row(values: tuple[Any, ...]) -> FolderRow:
    row = dict(zip(_COLUMNS.split(", "), values, strict=True))
    return FolderRow(**row | {"cloneable": bool(row["cloneable"])})


def add(database: Database, row: FolderRow) -> None:
    """Add a folder. Raises sqlite3.IntegrityError when the owner has one of that name."""
    values = (
        row.id, row.name, row.owner, row.size, row.permission, row.usage_mode, row.cloneable,
        row.created_at, row.status,
    )  # fmt: skip
    marks = ", ".join("?" * len(values))
    with database.transaction() as connection:
        connection.execute(f"INSERT INTO folders ({_COLUMNS}) VALUES ({marks})", values)


def set_status(database: Database, id: str, status: State) -> None:
    """Set the status of a folder."""
    with database.transaction() as connection:
        connection.execute("UPDATE folders SET status = ? WHERE id = ?", (status, id))


def change(database: Database, row: FolderRow) -> None:
    """Store the name, permission and cloneability of `row`. Raises sqlite3.IntegrityError when the
    owner has another folder of that name."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE folders SET name = ?, permission = ?, cloneable = ? WHERE id = ?",
            (row.name, row.permission, row.cloneable, row.id),
        )


def remove(database: Database, id: str) -> None:
    """Remove a folder."""
    with database.transaction() as connection:
        connection.execute("DELETE FROM folders WHERE id = ?", (id,))


def ids(database: Database) -> set[str]:
    """The UUID of every folder, also of those that are being created or removed."""
    with database.transaction() as connection:
        rows = connection.execute("SELECT id FROM folders")
        return {str(id) for (id,) in rows}
