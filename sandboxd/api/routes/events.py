"""GET /events/session: what happens to sessions, as server-sent events.

Of the session that sessionId or sessionName says, else of all that the owner has. The stream of
one session ends with the session; every stream ends with `event: server_close`, without which
clients would connect again and again. What a session has become before somebody listens, that
it has started, the result of its startup command and its end, is told first. Clients begin to
listen at the moment when they create a session: one that is not there is waited for a little.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, suppress

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ...errors import Invalid, NotFound
from ...store.sessions import SessionRow
from ..access.ownership import owner
from ..access.parameters import parameters
from ..http.delivery import expect_presence
from ..sessions.event_bus import EventListener, SessionEvent, events_of
from ..state import state

HEARTBEAT_S = 15.0

APPEAR_S = 2.0
"""How long a session that is not there is waited for, before that is told."""

_ALL = "*"
_SCOPES = ("session", "kernel")
_ALIASES = {"name": "sessionName", "session_name": "sessionName", "session_id": "sessionId"}


class EventFilter(msgspec.Struct):
    """The parameters of a request for events."""

    sessionName: str = _ALL
    sessionId: str = _ALL
    scope: str = _ALL


async def session_events(request: Request) -> Response:
    """The stream. Raises NotFound, Invalid."""
    wanted = await parameters(request, EventFilter, _ALIASES)
    who, kinds = owner(request), _kinds(wanted.scope)
    ref = next((ref for ref in (wanted.sessionId, wanted.sessionName) if ref != _ALL), None)
    row = None if ref is None else await _row(request, who, ref)
    awaited = ref if row is None else None
    source = state(request).sessions.events
    return _EventStream(source.listening(who, row.id if row else None, awaited), row, kinds)


def _kinds(scope: str) -> tuple[str, ...]:
    """What the names of the wanted events begin with."""
    asked = scope.split(",")
    if unknown := [kind for kind in asked if kind not in (*_SCOPES, _ALL)]:
        raise Invalid("Input validation error", {"scope": f"*, session, kernel; not {unknown[0]}"})
    return _SCOPES if _ALL in asked else tuple(asked)


async def _row(request: Request, who: str, ref: str) -> SessionRow | None:
    sessions = state(request).sessions
    try:
        return sessions.find(who, ref).row
    except NotFound:
        with suppress(NotFound):
            return await sessions.ended(who, ref)
    return None


def _already(row: SessionRow) -> list[SessionEvent]:
    """What there is to tell of a session at once."""
    told = events_of("started", row)
    if row.result == "SUCCESS":
        told += events_of("success", row, "task-done", row.exit_code)
    elif row.result == "FAILURE":
        told += events_of("failure", row, "task-failed", row.exit_code)
    if row.status == "TERMINATED":
        told += events_of("terminated", row, row.status_info)
    return told


class _EventStream(Response):
    """The answer; it listens as long as it is sent. Raises QuotaExceeded, and NotFound when the
    awaited session does not appear, before it begins."""

    def __init__(
        self,
        listening: AbstractContextManager[EventListener],
        row: SessionRow | None,
        kinds: tuple[str, ...],
    ) -> None:
        super().__init__()
        self._listening = listening
        self._over = row is not None and row.status == "TERMINATED"
        self._already = _already(row) if row else []
        self._kinds = kinds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        expect_presence(scope)
        with self._listening as listener:
            if self._over:
                listener.end()
            if listener.awaited:
                self._already = await _appeared(listener, listener.awaited)
            answer = StreamingResponse(
                _text(listener, self._kinds, self._already),
                media_type="text/event-stream",
                headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
            )
            await answer(scope, receive, send)


async def _appeared(listener: EventListener, ref: str) -> list[SessionEvent]:
    """The first event of the awaited session. Raises NotFound."""
    first = None
    with suppress(TimeoutError):
        async with asyncio.timeout(APPEAR_S):
            first = await listener.next()
    if first is None:
        raise NotFound("session", f"Session (id={ref}) does not exist.")
    return [first]


async def _text(
    listener: EventListener, kinds: tuple[str, ...], already: list[SessionEvent]
) -> AsyncIterator[bytes]:
    """The stream's lines."""
    yield b": this is a stream of events\n\n"  # so that the client sees the answer's head at once
    for event in already:
        if event.name.startswith(kinds):
            yield _lines(event.name, event.data)
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                found = await listener.next()
        except TimeoutError:
            yield b": heartbeat\n\n"
            continue
        if found is None:
            break
        if found.name.startswith(kinds):
            yield _lines(found.name, found.data)
    yield _lines("server_close", {})


def _lines(name: str, data: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
