"""The keypairs of the running daemon, as the database has them at every request.

They are in memory, and are read again after every write to the database file, also by the command
line. So a disabled keypair is refused from the next request on. To ask for the version of the file
costs next to nothing, to read the rows in a thread 76 microseconds.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping

from ...errors import Unavailable
from ...store import keypairs
from ...store.database import Database
from ...store.keypairs import Keypair
from ..telemetry.audit_log import audit

_log = logging.getLogger(__name__)

USED_EVERY_S = 60
"""Seconds between two writes of a keypair's last use."""


class Keys:
    """Looks keypairs up by access key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = b""
        self._known: dict[str, Keypair] = {}
        self._used: dict[str, float] = {}

    async def find(self, access_key: str) -> Keypair | None:
        """The keypair, if there is one and it is active. Raises Unavailable when the database
        cannot be read: a keypair from memory may have been disabled since."""
        await self.refresh()
        keypair = self._known.get(access_key)
        return keypair if keypair and keypair.is_active else None

    async def refresh(self) -> None:
        """Read the keypairs again if the file has changed. Raises Unavailable when that fails.

        The changes go to the audit log: the command line that has made them cannot write to the
        log of this daemon.
        """
        try:
            version = self._database.version()
            if version == self._version:
                return
            rows = await self._database.run(keypairs.all_keypairs)
        except sqlite3.Error as error:
            raise Unavailable("the keypairs cannot be read", str(error)) from None
        known = {keypair.access_key: keypair for keypair in rows}
        if self._version:
            for what, access_key in changes(self._known, known):
                audit(f"keypair.{what}", caller="command line", access_key=access_key)
        self._known = known
        self._version = version  # the one before the reading: later changes are read next time

    async def used(self, access_key: str, now: float) -> None:
        """Write that the keypair has signed a request at `now`, in seconds since 1970."""
        if now - self._used.get(access_key, 0) < USED_EVERY_S:
            return
        self._used[access_key] = now
        try:
            await self._database.run(keypairs.used, access_key, now)
        except sqlite3.Error as error:  # a date for people; nothing depends on it
            _log.warning("the last use of %s cannot be noted: %s", access_key, error)


def changes(
    before: Mapping[str, Keypair], after: Mapping[str, Keypair]
) -> Iterator[tuple[str, str]]:
    """The changes to keypairs, each with its access key. No I/O."""
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            yield "delete" if new is None else "create", key
        elif old.secret_key != new.secret_key:
            yield "replace", key
        elif old.is_active != new.is_active:
            yield "enable" if new.is_active else "disable", key
        elif (old.is_admin, old.rate_limit) != (new.is_admin, new.rate_limit):
            yield "change", key
