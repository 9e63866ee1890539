"""Sessions that wait for their turn: those whose clients asked for that.

    PENDING   a row without a slot. It can be looked at, renamed and deleted, but not used yet
    RUNNING   its turn came (admission.py), a slot is leased, and its own runs begin

It is on the disk when it is told of. After a restart it waits again, in the order of asking. What
ends it before its turn, withdraws it first and then waits for this to be through, so that nothing
is leased to a session that is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from ...errors import SandboxdError, Unavailable
from ...runs.run import Plan
from .admission import Places
from .fair_queue import Amount
from .session import Session

_log = logging.getLogger(__name__)

RETRY_S = 1.0
"""How often a session whose turn has come looks for a slot that another daemon may give back."""


class PendingSession:
    """The wait of one session. `over` is set when it does not wait any more."""

    def __init__(self, session: Session, places: Places, first: Sequence[tuple[str, Plan]]) -> None:
        self.over = asyncio.Event()
        self._session = session
        self._places = places
        self._first = first
        self._task: asyncio.Task[None] | None = None

    def begin(
        self,
        amount: Amount,
        start: Callable[[Session], Awaitable[None]],
        lose: Callable[[Session, str], Awaitable[object]],
    ) -> None:
        """Wait for `amount`; then `start` makes the session RUNNING, or it is lost."""
        self._places.ask(self._session.row.id, self._session.row.owner, amount)
        coming = self._come(start, lose)
        self._task = asyncio.create_task(coming, name=f"pending {self._session.row.id}")

    async def _come(
        self,
        start: Callable[[Session], Awaitable[None]],
        lose: Callable[[Session, str], Awaitable[object]],
    ) -> None:
        session = self._session
        try:
            if await self._places.turn(session.row.id):
                await self._start(start)
        except SandboxdError as error:
            _log.warning("session %s cannot begin: %s", session.row.id, error)
            session.pending = None  # it is not to be waited for by itself
            await lose(session, str(error))
        finally:
            session.pending = None
            self.over.set()

    async def _start(self, start: Callable[[Session], Awaitable[None]]) -> None:
        session = self._session
        while not session.closed:
            try:
                await start(session)
            except Unavailable as error:  # a slot is there, but not to be had now
                _log.info("session %s goes on waiting: %s", session.row.id, error)
                await asyncio.sleep(RETRY_S)
            else:
                await session.runs.begin(self._first)
                return

    async def end(self) -> None:
        """It need not wait any more; whether its turn has come, its row says."""
        self._places.withdraw(self._session.row.id)
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)

    async def cancel(self) -> None:
        """The daemon ends; the next one has it wait again."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
