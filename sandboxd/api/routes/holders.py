"""The routes of a session's holder: hold the session by an open connection, or renew its time to
live (sessions/time_to_live.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..access.parameters import NoParameters, ParameterSet, parameters
from ..http.delivery import expect_presence
from ..sessions.lifecycle import LIFE_MAX_S
from ..sessions.time_to_live import TimeToLive
from ..state import session
from .events import HEARTBEAT_S, event_lines


class RenewSession(ParameterSet):
    """The parameters of a renewal. `ttlSeconds`: another time to live; 0: none."""

    aliases = {"ttl_s": "ttlSeconds"}

    ttlSeconds: Annotated[float, Meta(ge=0, le=LIFE_MAX_S)] | None = None


async def renew(request: Request) -> Response:
    """POST /session/{ref}/renew: the session's time to live begins anew."""
    body = await parameters(request, RenewSession)
    target, now = session(request), time.time()
    target.ttl.renew(now)
    changes: dict[str, Any] = {"renewed_at": now}
    if body.ttlSeconds is not None:
        changes["ttl_s"] = body.ttlSeconds
    await target.change(**changes)
    return Response(status_code=204)


async def hold(request: Request) -> Response:
    """GET /session/{ref}/hold: the session does not end by its time to live while the response is
    under way."""
    await parameters(request, NoParameters)
    return _Hold(session(request).ttl)


class _Hold(Response):
    """The response, which holds the session until the client, the session or the daemon ends."""

    def __init__(self, ttl: TimeToLive) -> None:
        super().__init__()
        self._ttl = ttl

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        expect_presence(scope)
        with self._ttl.held():
            answer = StreamingResponse(
                _text(self._ttl),
                media_type="text/event-stream",
                headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
            )
            await answer(scope, receive, send)


async def _text(ttl: TimeToLive) -> AsyncIterator[bytes]:
    """The stream's lines."""
    yield event_lines("session_held", {})
    while not ttl.over.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await ttl.over.wait()
                break
        yield b": heartbeat\n\n"  # a client that has vanished is noticed by what it does not take
    yield event_lines("server_close", {})
