"""The keypairs as the running daemon knows them: what the database says, at every request.

They are kept in memory and read again when anybody has written to the file since, the command
line above all, so that a keypair that was disabled is refused from the next request on. Asking
for the file's version costs a thirtieth of reading the row in a thread (3 against 76
microseconds), and nothing on the disk.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3

from ..errors import Unavailable
from ..store import keypairs
from ..store.database import Database
from ..store.keypairs import Keypair

_log = logging.getLogger(__name__)

USED_EVERY_S = 60
"""How exact a keypair's last use is; each time is a write."""


class Keys:
    """Looks keypairs up by access key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = -1
        self._known: dict[str, Keypair] = {}
        self._used: dict[str, float] = {}

    async def find(self, access_key: str) -> Keypair | None:
        """The keypair, if there is one and it is active. Raises Unavailable when the database
        cannot be read: nobody is let in on what may no longer be so."""
        try:
            version = self._database.version()
            if version != self._version:
                found = await asyncio.to_thread(keypairs.all_keypairs, self._database)
                self._known = {keypair.access_key: keypair for keypair in found}
                self._version = version  # of before the reading: what came since is read again
        except sqlite3.Error as error:
            raise Unavailable(f"the keypairs cannot be read: {error}") from None
        keypair = self._known.get(access_key)
        return keypair if keypair and keypair.is_active else None

    async def used(self, access_key: str, now: float) -> None:
        """The keypair has signed a request at `now`, in seconds since 1970."""
        if now - self._used.get(access_key, 0) < USED_EVERY_S:
            return
        self._used[access_key] = now
        try:
            await asyncio.to_thread(keypairs.used, self._database, access_key, now)
        except sqlite3.Error as error:  # a date for people; nothing is decided by it
            _log.warning("the last use of %s cannot be noted: %s", access_key, error)
