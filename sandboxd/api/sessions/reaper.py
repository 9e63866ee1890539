"""The reaper: it ends idle and expired sessions, and warns their clients before.

The last use of a session is known to the second in memory and to the minute in the database, so
that a restart neither loses nor prolongs its time.
"""

from __future__ import annotations

import logging
import math
import sqlite3

from ... import log
from ...errors import SandboxdError
from ..telemetry.audit_log import audit
from . import lifecycle
from .clock_watch import ClockWatch
from .registry import SessionRegistry
from .session import Session

_log = logging.getLogger(__name__)

NOTED_S = 60.0
"""How exact the last use is in the database."""


async def reap(sessions: SessionRegistry, clock: ClockWatch) -> None:
    """Look at all sessions once."""
    for session in sessions.of(None):
        try:
            await _look_at(sessions, session, clock.now)
        except (SandboxdError, sqlite3.Error) as error:  # the next look may succeed
            _log.warning("session %s does not end: %s", session.row.id, error)


def due(sessions: SessionRegistry, now: float) -> float:
    """The date at which a session has something due; `now`, if something goes on in one."""
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
