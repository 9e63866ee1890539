"""The reaper: it ends idle and expired sessions, and looks after all that goes by time.

`reap` is one task of the server. The last use of a session is known to the second in memory and to
the minute in the database, so that a restart neither loses nor prolongs its time.

The reaper looks each second while something goes on. While all sessions are at rest it waits until
one is used or has something due, so that an idle daemon does not wake up the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3

from ... import log
from ...errors import SandboxdError, Unavailable
from ..access.keys import Keys
from ..telemetry.audit_log import audit
from . import lifecycle
from .clock_watch import ClockWatch
from .registry import SessionRegistry
from .session import Session

_log = logging.getLogger(__name__)

EVERY_S = 1.0
REST_S = 20.0
"""Between two looks while all sessions are at rest: a change of the clock or of the keypairs is
seen so late at most."""

NOTED_S = 60.0
"""How exact the last use is in the database."""


async def reap(sessions: SessionRegistry, keys: Keys, clock: ClockWatch) -> None:
    """Look at all sessions and at the keypairs again and again, for ever."""
    while True:
        with contextlib.suppress(Unavailable):  # a request that needs them reports it
            await keys.refresh()
        await asyncio.sleep(EVERY_S)
        await _rest(sessions, clock.now)
        await clock.look(sessions)
        await sessions.admission.refresh()
        with contextlib.suppress(Unavailable):  # a full disk; the next look may find room
            await sessions.services.deferred.settle()
        for session in sessions.of(None):
            try:
                await _look_at(sessions, session, clock.now)
            except (SandboxdError, sqlite3.Error) as error:  # the next look may succeed
                _log.warning("session %s does not end: %s", session.row.id, error)


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
    return min((_due_in(each, sessions, now) for each in sessions.of(None)), default=math.inf)


def _due_in(session: Session, sessions: SessionRegistry, now: float) -> float:
    if session.busy or session.pending:
        return now
    end = session.due_end(now)
    if end is None:
        return session.runs.expires_at
    is_warned = session.warned or end.reason in (lifecycle.DONE, lifecycle.UNHELD)
    warned_s = 0.0 if is_warned else sessions.config.sessions.warn_s
    return min(end.at - warned_s, session.runs.expires_at)


async def _look_at(sessions: SessionRegistry, session: Session, now: float) -> None:
    if session.closed:
        return
    session.ttl.look(now)
    if not session.pending:
        await session.runs.expire(now)
    # also when the clock has been set back: nobody uses a session in the future
    session.used_at = now if session.busy else min(session.used_at, now)
    end = session.due_end(now)
    if end and end.at <= now:
        await sessions.destroy(session, end.reason)
        row = session.row
        audit("session.end", session=row.id, owner=row.owner, reason=end.reason)
        return
    _warn(session, end if end and end.at - now <= sessions.config.sessions.warn_s else None, now)
    await _note(session)


async def _note(session: Session) -> None:
    """Write the dates of the last use and the last renewal, if those in the row are old."""
    dates = {"used_at": session.used_at, "renewed_at": session.ttl.renewed_at}
    if any(date - getattr(session.row, name) > NOTED_S for name, date in dates.items()):
        await session.change(**dates)


def _warn(session: Session, end: lifecycle.End | None, now: float) -> None:
    """Warn once that the session comes to its `end` soon; None: it does not yet."""
    if end is None or end.reason in (lifecycle.DONE, lifecycle.UNHELD):
        session.warned = False
    elif not session.warned:
        session.warned = True
        left, row = end.at - now, session.row
        about = {"session": row.id, "owner": row.owner, "reason": end.reason, "in_s": round(left)}
        log.event("session.ends-soon", logging.INFO, **about)
        if end.reason == lifecycle.OLD:  # an idle session has no client that could be warned
            warning = f"this session ends in {left:.0f} s, whatever goes on in it: it is too old"
            if active := session.runs.active:
                active.notice(warning)
            else:
                session.runs.add_notice(warning)
