"""The keypairs that may sign requests. Each function is one transaction and blocks on the disk.

Secrets are stored as they are, since the check of an HMAC needs them. The mode of the file protects
them: it belongs to the api's uid alone. The command line works on the same file beside a running
daemon, which notices the change by `Database.version`.
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

from ..errors import NotFound, Refused
from .database import Database

PREFIX = "AK"
ACCESS_KEY_SIZE = 20
SECRET_KEY_SIZE = 40


@dataclass(frozen=True, slots=True)
class Keypair:
    """One keypair; its access key is the owner of sessions and folders.

    created_at, last_used  seconds since 1970; None: never used
    rate_limit             requests in a window; None: as configured
    """

    access_key: str
    secret_key: str = field(repr=False)
    is_admin: bool
    is_active: bool
    created_at: float
    last_used: float | None = None
    rate_limit: int | None = None


_COLUMNS = "access_key, secret_key, is_admin, is_active, created_at, last_used, rate_limit"


def generate(is_admin: bool, now: float, rate_limit: int | None = None) -> Keypair:
    """A new keypair, not stored yet: 93 and 238 random bits."""
    access_key = PREFIX + _text(string.ascii_uppercase + string.digits, ACCESS_KEY_SIZE - 2)
    secret_key = _text(string.ascii_letters + string.digits, SECRET_KEY_SIZE)
    return Keypair(access_key, secret_key, is_admin, True, now, None, rate_limit)


def _text(alphabet: str, size: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(size))


def all_keypairs(database: Database) -> list[Keypair]:
    """Every keypair, oldest first."""
    with database.transaction() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM keypairs ORDER BY created_at, access_key"
        ).fetchall()
    return [
        Keypair(key, secret, bool(is_admin), bool(is_active), *rest)
        for key, secret, is_admin, is_active, *rest in rows
    ]


def add(database: Database, keypair: Keypair) -> None:
    """Add a keypair. Raises sqlite3.IntegrityError when there is one of that access key."""
    with database.transaction() as connection:
        connection.execute(
            f"INSERT INTO keypairs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                keypair.access_key, keypair.secret_key, keypair.is_admin, keypair.is_active,
                keypair.created_at, keypair.last_used, keypair.rate_limit,
            ),
        )  # fmt: skip


def set_active(database: Database, access_key: str, active: bool) -> None:
    """Let a keypair sign requests, or forbid it. Raises NotFound."""
    with database.transaction() as connection:
        done = connection.execute(
            "UPDATE keypairs SET is_active = ? WHERE access_key = ?", (active, access_key)
        )
        if not done.rowcount:
            raise _missing(access_key)


def used(database: Database, access_key: str, now: float) -> None:
    """Note that a keypair has signed a request at `now`, in seconds since 1970."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE keypairs SET last_used = ? WHERE access_key = ?", (now, access_key)
        )


def remove(database: Database, access_key: str, force: bool = False) -> None:
    """Remove a keypair. Raises NotFound; Refused when it owns anything, unless `force`. With
    `force` its sessions and folders stay, and only an admin who names the owner reaches them."""
    with database.transaction() as connection:
        owned = connection.execute(_OWNED, (access_key, access_key)).fetchone()
        if any(owned) and not force:
            raise Refused(f"keypair {access_key} owns {owned[0]} sessions and {owned[1]} folders")
        done = connection.execute("DELETE FROM keypairs WHERE access_key = ?", (access_key,))
        if not done.rowcount:
            raise _missing(access_key)


_OWNED = """
    SELECT (SELECT count(*) FROM sessions WHERE owner = ? AND status <> 'TERMINATED'),
           (SELECT count(*) FROM folders WHERE owner = ?)
"""


def _missing(access_key: str) -> NotFound:
    return NotFound("keypair", f"there is no keypair {access_key}")
