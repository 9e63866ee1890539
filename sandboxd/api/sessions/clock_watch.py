"""The watch on the host's clock: when the clock is set, the dates of sessions move with it.

Times of sessions have to outlive the daemon, and only dates do. The kernel has a clock that nobody
sets (CLOCK_BOOTTIME, clock_gettime(2)), which goes on while the machine sleeps; by this clock the
daemon tells a jump of the date from time that passes. When the daemon starts, a date before the
last noted date means that the clock was set back, or that the machine has none: then no time has
passed.
"""

from __future__ import annotations

import contextlib
import logging
import time

from ... import log
from ...host.uptime import uptime
from ...store import clock_jump as table
from ...store.clock_jump import ClockJump
from ...store.database import Database, Unwritable
from .registry import SessionRegistry

JUMP_S = 2.0
"""Smaller jumps are ignored: they end no session, and the kernel slews the clock by less in a
second."""

APART_S = 0.1
"""Two looks at the clocks are of one moment if no more time is between them."""

NOTED_S = 60.0


class ClockWatch:
    """The host's clock, watched from the first look on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last = clocks()
        self._noted = 0.0

    @property
    def now(self) -> float:
        """The date that the last look has read.

        Sessions are judged by this date. A date read later could be one to which the clock was
        set after the look, and would end sessions whose dates have not been moved yet.
        """
        return self._last[0]

    async def begin(self) -> None:
        """Before anything is read: move the stored dates if the clock was set back meanwhile."""
        seen = await self._database.run(table.seen)
        now, self._noted = self._last
        with contextlib.suppress(Unwritable):  # a full disk
            if now < seen - JUMP_S:
                log.event("clock.set", logging.WARNING, by_s=round(now - seen, 3))
                await self._database.run(table.shift, ClockJump(now - seen, now))
            else:
                await self._database.run(table.note, now)

    async def look(self, sessions: SessionRegistry) -> None:
        """Look at the clock; called again and again, before anything is judged by a date."""
        (wall, running), self._last = self._last, clocks()
        passed = self._last[1] - running
        by = self._last[0] - wall - passed
        if abs(by) >= JUMP_S:
            log.event("clock.set", logging.WARNING, by_s=round(by, 3))
            jump = ClockJump(by, self._last[0], passed)
            sessions.shift_dates(jump)
            await sessions.services.deferred.write(table.shift, jump)
        elif self._last[1] - self._noted >= NOTED_S:
            self._noted = self._last[1]
            with contextlib.suppress(Unwritable):  # the next look may find room
                await self._database.run(table.note, self._last[0])


def clocks() -> tuple[float, float]:
    """The host's date, in seconds since 1970, and the seconds that it has been running.

    Both are of one moment: a process that is stopped between the two looks, or waits for a busy
    machine, would take the time until it goes on for a setting of the clock.
    """
    while True:
        before, date, running = uptime(), time.time(), uptime()
        if running - before < APART_S:
            return date, running
