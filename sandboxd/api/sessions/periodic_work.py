"""The periodic work of the api, by one task: all that goes by time.

Each round looks at the keypairs, the clock, the capacity of the host and the deferred writes, and
has the reaper end sessions (reaper.py).

A round begins each second while something goes on. While all sessions are at rest the task waits
until one is used or has something due, so that an idle daemon does not wake up the host.
"""

from __future__ import annotations

import asyncio
import contextlib

from ...errors import Unavailable
from ..access.keys import Keys
from . import reaper
from .clock_watch import ClockWatch
from .registry import SessionRegistry

EVERY_S = 1.0
REST_S = 20.0
"""Between two rounds while all sessions are at rest: a change of the clock or of the keypairs is
seen so late at most."""


async def work(sessions: SessionRegistry, keys: Keys, clock: ClockWatch) -> None:
    """Work again and again, for ever."""
    while True:
        with contextlib.suppress(Unavailable):  # a request that needs them reports it
            await keys.refresh()
        await asyncio.sleep(EVERY_S)
        await _rest(sessions, clock.now)
        await clock.look(sessions)
        await sessions.admission.refresh()
        with contextlib.suppress(Unavailable):  # a full disk; the next round may find room
            await sessions.services.deferred.settle()
        await reaper.reap(sessions, clock)


async def _rest(sessions: SessionRegistry, now: float) -> None:
    """Wait while nothing is due and no session is used."""
    left_s = min(_due(sessions, now) - now - EVERY_S, REST_S)
    if left_s > 0:
        sessions.used.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await sessions.used.wait()


def _due(sessions: SessionRegistry, now: float) -> float:
    """The date at which something is due; `now`, if something goes on."""
    if sessions.services.deferred.are_due or sessions.admission.are_waiting:
        return now
    return reaper.due(sessions, now)
