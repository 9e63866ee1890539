"""What has happened and a full disk has kept from being written: written when there is room.

That a session is over, or was never made, is true whether its row says so or not. So it is not
undone for want of a disk, but owed; the sweeper pays. Until it has, nothing new is made: a new row
could meet one of an old name or slot. If the daemon is killed before, the next one finds the rows
without what they stand for, and forgets them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ...store.database import Database, Unwritable

_log = logging.getLogger(__name__)


class DeferredWrites:
    """The writes to `database` that are due, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due: deque[Callable[[], Awaitable[object]]] = deque()
        self._lock = asyncio.Lock()

    async def write(self, act: Callable[..., object], *args: Any, **values: Any) -> None:
        """Have `act` write now, after all that is due before it; or later."""
        self._due.append(partial(self._database.run, act, *args, **values))
        try:
            await self.settle()
        except Unwritable as error:
            _log.error("%d writes wait for room on the disk: %s", len(self._due), error)

    async def settle(self) -> None:
        """Write all that is due. Raises Unwritable."""
        async with self._lock:
            while self._due:
                try:
                    await self._due[0]()
                except Unwritable:
                    raise
                except sqlite3.Error as error:  # never, then; it holds for as long as we live
                    _log.error("what is over cannot be stored: %s", error)
                self._due.popleft()
