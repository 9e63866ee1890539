"""The wait of a PENDING session for its turn, as a task that can be ended.

    PENDING   a row without a slot. It can be looked at, renamed and deleted, but not used yet
    RUNNING   its turn came (admission.py), a slot is leased, and its own runs begin

A PENDING session is on the disk before its client hears of it. After a restart it waits again, in
the order of the requests. A session that is destroyed before its turn is withdrawn first, and its
task is awaited then, so that no slot is leased to a session that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from ..admission.admission import Reservations


class PendingSession:
    """The wait of the session `id` in the queue of `reservations`. `over` is set at its end."""

    def __init__(self, id: str, reservations: Reservations) -> None:
        self.over = asyncio.Event()
        self._id = id
        self._reservations = reservations
        self._task: asyncio.Task[None] | None = None

    def begin(self, wait: Coroutine[None, None, None]) -> None:
        """Have a task carry out `wait`, which ends when the session runs or is lost."""
        self._task = asyncio.create_task(wait, name=f"pending {self._id}")
        self._task.add_done_callback(lambda _: self.over.set())

    async def withdraw(self) -> None:
        """End the wait. Whether the turn of the session came before, its row says."""
        self._reservations.withdraw(self._id)
        await self._finished()

    async def cancel(self) -> None:
        """End the wait: the daemon ends, and the next one has the session wait again."""
        if self._task:
            self._task.cancel()
        await self._finished()

    async def _finished(self) -> None:
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)
