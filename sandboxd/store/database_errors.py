"""The errors of the database: as its callers know them, and in words for operators."""

from __future__ import annotations

import sqlite3

from ..errors import Invalid, NoSpace

REMEDY = (
    "put back a copy of it, or move it, what begins with its name, and the directory slots away: "
    "then sandboxd starts without its sessions and keypairs"
)
"""The remedy for a damaged database."""


class Unwritable(NoSpace, sqlite3.OperationalError):
    """The database cannot be written for now, mostly for want of disk space."""


def translate(error: BaseException) -> None:
    """Raise the error of a transaction as its callers know it, unless that is the same."""
    if isinstance(error, UnicodeEncodeError):  # SQLite's texts are UTF-8
        raise Invalid("a text with lone surrogates cannot be kept") from None
    if isinstance(error, sqlite3.OperationalError) and not isinstance(error, Unwritable):
        raise Unwritable("the state cannot be written", str(error)) from error


def with_remedy(error: Exception) -> str:
    """The error and its remedy, so that nobody throws a file away that is not damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or not code:
        return f"{error}; {REMEDY}"
    return f"{error}; it is not damaged: see to the disk, its free space and permissions"
