"""The deferred writes: changes that have happened, and that a full disk keeps from being written.

A session that is over, or was never completed, is so whether its row says it or not. Its end is not
undone for want of disk space: the write is deferred, and the reaper tries again. Until all of them
are written, nothing new is created, since a new row could meet an old row of the same name or slot.
If the daemon is killed before, the next one finds the rows without a slot behind them, and forgets
them.
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
        """Have `act` write now, after all writes that are due before it; or later."""
        self._due.append(partial(self._database.run, act, *args, **values))
        try:
            await self.settle()
        except Unwritable as error:
            _log.error("%d writes wait for room on the disk: %s", len(self._due), error)

    async def settle(self) -> None:
        """Carry out all writes that are due. Raises Unwritable."""
        async with self._lock:
            while self._due:
                try:
                    await self._due[0]()
                except Unwritable:
                    raise
                except sqlite3.Error as error:  # it never can be; memory has it until we end
                    _log.error("the end of a session or run cannot be stored: %s", error)
                self._due.popleft()
