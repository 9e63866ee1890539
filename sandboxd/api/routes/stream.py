"""WebSocket /stream/session/{ref}/execute: a run, followed over one connection.

    client  one text frame, {"mode": "batch", "code": "", "options": {...}}; afterwards each
            text frame is input for the program; binary frames mean nothing.
            With a runId it begins a run that goes on when the connection breaks, and
            {"mode": "continue", "runId", "options": {"offset"}} takes that up again
    server  frames {"status", "exitCode", "console", "options", "files"}, until the one that
            ends the run, and closes; for a first frame that asks for no run
            {"status": "error", "msg"}, the same as a log item in "console", and closes

A run without a name begins with the first frame and belongs to the connection: when its client
leaves, it is interrupted, and killed if that does not end it. When the daemon ends, the connection
is closed with 1012 (service restart, RFC 6455's registry), and no run ends for that; the client of
one without a name is told so before, {"status": "server-restarting", "msg", "console"}.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocket, WebSocketDisconnect

from ...errors import Invalid, SandboxdError
from ...runs.console_items import log
from ...runs.cursor import Offset
from ...runs.polling import STREAM
from ...runs.run import Run
from ...runs.values import Input
from ..access.parameters import fold, parse, typed
from ..http.delivery import expect_handed_over
from ..http.responses import to_json
from ..sessions.session import Session
from ..state import session
from .execute import Call, Typed, ask, bad_mode, result, since

_log = logging.getLogger(__name__)

FIRST_S = 30.0
"""Seconds that a client has to say what it wants."""

SERVICE_RESTART = 1012
LEFT_ALONE = "sandboxd ends or restarts: the run goes on, and its output is in the session's log"

_LAST = ("finished", "exec-timeout", "error")


async def execute(websocket: WebSocket) -> None:
    """Serve one connection. Raises NotFound before it is opened."""
    found = session(websocket)
    await websocket.accept()
    with suppress(WebSocketDisconnect, ClientDisconnect):
        if asked := await _begin(websocket, found):
            await _attend(websocket, found, asked)


@dataclass(frozen=True, slots=True)
class _StreamRequest:
    """What a connection is for.

    own    the run is the connection's alone, for its client cannot name it
    since  where the client is in the run, if it knows
    """

    run: Run
    own: bool
    since: Offset | None


async def _begin(websocket: WebSocket, found: Session) -> _StreamRequest | None:
    """What the first frame asks for; None: it was refused."""
    try:
        async with asyncio.timeout(FIRST_S):
            text = await receive_text(websocket)
        call = typed(fold(parse(text.encode()), {}), Call)
        options = typed(fold(call.options, {}), Typed, "options")
        if call.mode == "continue":
            return _StreamRequest(found.runs.get(call.runId), False, since(options.offset))
        if call.mode != "batch":
            raise bad_mode(call.mode)
        return _StreamRequest(
            await ask(websocket, found, call), not call.runId, since(options.offset)
        )
    except TimeoutError:
        refusal = f"nothing was asked for within {FIRST_S:g} s"
    except SandboxdError as error:
        refusal = str(error)
        if isinstance(error, Invalid) and isinstance(error.data, dict):
            refusal += "".join(f"; {where}: {why}" for where, why in error.data.items())
    await _send(websocket, _unsaid("error", refusal, "error"))
    await websocket.close()
    return None


async def receive_text(websocket: WebSocket) -> str:
    """The next text frame. Raises WebSocketDisconnect when the client is gone."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        if isinstance(text := message.get("text"), str):
            return text


async def _attend(websocket: WebSocket, found: Session, asked: _StreamRequest) -> None:
    """Tell the client all of the run, and the run what its client types, until either ends."""
    run = asked.run
    tasks = [
        asyncio.create_task(_tell(websocket, found, asked), name=f"frames {run.id}"),
        asyncio.create_task(_listen(websocket, run), name=f"input {run.id}"),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if asked.own and not run.over and not run.suspended:
            await _abandon(found, run)


async def _abandon(found: Session, run: Run) -> None:
    try:
        await found.runs.abandon(run)
    except SandboxdError as error:  # its limits will end it
        _log.warning("run %s cannot be ended now that its client is gone: %s", run.id, error)


async def _tell(websocket: WebSocket, found: Session, asked: _StreamRequest) -> None:
    """Send frame after frame, to the last."""
    run, since = asked.run, asked.since
    while not run.suspended:
        try:
            async with run.call(policy=STREAM, since=since) as reply:
                frame = await result(found, run, reply)
                frame["options"] = frame["options"] or {}  # null would crash clients
                if reply:
                    await reply.note()
                last = await _send(websocket, frame)
                await expect_handed_over(websocket.scope)
        except SandboxdError as error:
            last = await _send(websocket, _fault(error))
        if last:
            await websocket.close()
            return
        since = None
    if asked.own:  # its client has no name to take the run up by
        await _send(websocket, _unsaid("server-restarting", LEFT_ALONE, "warning"))
    await websocket.close(SERVICE_RESTART)


def _unsaid(status: str, why: str, level: str) -> dict[str, Any]:
    """A frame that is about no step. Clients print the console of one, and not its msg."""
    return {"status": status, "msg": why, "options": {}, "console": [log(level, why)]}


def _fault(error: SandboxdError) -> dict[str, Any]:
    """The end of a run that could not be started, by our fault: told so that people see it."""
    return {
        "status": "finished",
        "exitCode": -1,
        "options": {},
        "files": [],
        "console": [log("error", str(error))],
    }


async def _send(websocket: WebSocket, frame: dict[str, Any]) -> bool:
    """Send `frame`; whether it is the last one."""
    await websocket.send_text(to_json(frame).decode())
    return frame["status"] in _LAST


async def _listen(websocket: WebSocket, run: Run) -> None:
    """Give the program what the client types, until the client is gone."""
    while True:
        text = await receive_text(websocket)
        try:
            await run.type(Input(text))
        except SandboxdError as error:
            run.notice(f"input was not taken: {error}")
