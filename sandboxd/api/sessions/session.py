"""A session while it lives: its row, and what goes on in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import Full, NotFound, SandboxdError, Unavailable
from ...runs.channel import Channel
from ...runs.console_items import text
from ...runs.queue import RunQueue
from ...runs.run import Run
from ...runs.terminals import Terminals
from ...store.sessions import SessionRow
from .admission import Admission, Waiting
from .warden_client import WardenClient

if TYPE_CHECKING:
    from .pending import PendingSession

HELPERS_MAX = 8
"""File calls that a session may have open at a time."""


@dataclass(slots=True)
class Session:
    """A session that runs: its row, its runs, its terminals, and the turns for its file calls.

    used_at   seconds since 1970 of the last request for it; more exact than the row
    requests  for it so far; of a session that an earlier daemon has made, at least its runs
    accounts  held while a run that is over is being accounted for
    warned    its end has been told
    pending   what waits for its turn, as long as it does
    """

    row: SessionRow
    runs: RunQueue
    terminals: Terminals
    warden: WardenClient
    turns: asyncio.Semaphore
    admission: Admission
    used_at: float
    requests: int
    closed: bool = False
    warned: bool = False
    pending: PendingSession | None = None
    accounts: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def slot(self) -> int:
        """The slot that it has leased."""
        if waiting := self.waits:
            raise Full(f"the session has not begun yet, it waits for its turn: {waiting.reason}")
        if self.row.slot is None:
            raise NotFound("session", f"Session (id={self.row.id}) does not exist.")
        return self.row.slot

    @property
    def waits(self) -> Waiting | None:
        """Where it waits for its turn; None: it has begun."""
        return self.admission.sessions.waiting(self.row.id)

    @property
    def busy(self) -> bool:
        """Something runs in it."""
        return bool(self.runs.active or len(self.terminals))

    def waiting(self, run: Run) -> Waiting | None:
        """Where a run of it waits; None: it does not."""
        return self.admission.waiting(self.runs, run)

    async def log(self) -> str:
        """What the run that was started last has printed; as much as an answer holds."""
        last = self.runs.last
        return text(await last.printed()) if last else ""

    async def open_helper(self) -> Channel:
        """A file helper of it, for one request. Raises NotFound when the session has ended."""
        if self.closed:
            raise self.helper_gone()
        return await self.warden.files(self.slot, self.row.id)

    def helper_gone(self) -> SandboxdError:
        """Why its file helper may have ended without an answer."""
        if self.closed:
            return NotFound("session", f"Session (id={self.row.id}) does not exist.")
        return Unavailable("the session's file helper is gone")

    def told(self, text: str) -> str:
        """A message of its file helper: names are below /home/work here too."""
        return text
