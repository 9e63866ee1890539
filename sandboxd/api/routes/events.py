"""The route of events: GET /events/session, the life of sessions as server-sent events.

The events are those of the session in sessionId or sessionName, else of all sessions of the owner.
The stream of one session ends with the session. Every stream ends with `event: server_close`;
without that event clients would connect again and again. A stream begins with the events that its
session already had: its start, the result of its startup command, its end. Clients listen as soon
as they create a session, so the stream waits a little for a session that does not exist yet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, suppress

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ...errors import Invalid, NotFound
from ...store.sessions import SessionRow
from ..access.ownership import owner
from ..access.parameters import ParameterSet, parameters
from ..http.delivery import expect_presence
from ..sessions.event_bus import EventListener, SessionEvent, events_of
from ..state import state

HEARTBEAT_S = 15.0

APPEAR_S = 2.0
"""Seconds that a stream waits for a session that does not exist yet."""

_ALL = "*"
_SCOPES = ("session", "kernel")


class EventFilter(ParameterSet):
    """The parameters of a request for events."""

    aliases = {"name": "sessionName", "session_name": "sessionName", "session_id": "sessionId"}

    sessionName: str = _ALL
    sessionId: str = _ALL
    scope: str = _ALL


async def session_events(request: Request) -> Response:
    """GET /events/session: the life of sessions as server-sent events. Raises NotFound, Invalid."""
    filter = await parameters(request, EventFilter)
    name, kinds = owner(request), _kinds(filter.scope)
    ref = next((ref for ref in (filter.sessionId, filter.sessionName) if ref != _ALL), None)
    row = None if ref is None else await _row(request, name, ref)
    awaited = ref if row is None else None
    source = state(request).sessions.events
    return _EventStream(source.listening(name, row.id if row else None, awaited), row, kinds)


def _kinds(scope: str) -> tuple[str, ...]:
    """The prefixes of the names of the wanted events."""
    kinds = scope.split(",")
    if unknown := [kind for kind in kinds if kind not in (*_SCOPES, _ALL)]:
        raise Invalid.of({"scope": f"*, session, kernel; not {unknown[0]}"})
    return _SCOPES if _ALL in kinds else tuple(kinds)


async def _row(request: Request, owner: str, ref: str) -> SessionRow | None:
    sessions = state(request).sessions
    try:
        return sessions.find(owner, ref).row
    except NotFound:
        with suppress(NotFound):
            return await sessions.ended(owner, ref)
    return None


def _already(row: SessionRow) -> list[SessionEvent]:
    """The events that a session already had."""
    events = events_of("started", row)
    if row.result == "SUCCESS":
        events += events_of("success", row, "task-done", row.exit_code)
    elif row.result == "FAILURE":
        events += events_of("failure", row, "task-failed", row.exit_code)
    if row.status == "TERMINATED":
        events += events_of("terminated", row, row.status_info)
    return events


class _EventStream(Response):
    """The response, which listens while it is sent.

    Raises QuotaExceeded before its begin, and NotFound if the awaited session does not appear.
    """

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
        """Send the stream."""
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
    yield b": this is a stream of events\n\n"  # the client gets the head at once
    for past in already:
        if past.name.startswith(kinds):
            yield event_lines(past.name, past.data)
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                event = await listener.next()
        except TimeoutError:
            yield b": heartbeat\n\n"
            continue
        if event is None:
            break
        if event.name.startswith(kinds):
            yield event_lines(event.name, event.data)
    yield event_lines("server_close", {})


def event_lines(name: str, data: dict[str, object]) -> bytes:
    """An event as it is sent."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
