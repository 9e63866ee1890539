"""WebSocket /stream/session/{ref}/execute: a run, followed over one connection.

    client  one text frame, {"mode": "batch", "code": "", "options": {...}}; afterwards each
            text frame is input for the program; binary frames mean nothing
    server  frames {"status", "exitCode", "console", "options", "files"}, until the one that
            ends the run, and closes; for a first frame that asks for no run
            {"status": "error", "msg"}, and closes

The run begins with the first frame and belongs to the connection: when its client leaves, it is
interrupted, and killed if that does not end it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from ..errors import Invalid, SandboxdError
from ..runs.console import log
from ..runs.run import Input, Run
from ..runs.terms import STREAM
from .answers import to_json
from .bodies import fold, parse, typed
from .execute import Call, ask, bad_mode, result
from .session import Session
from .state import session

_log = logging.getLogger(__name__)

FIRST_S = 30.0
"""Seconds that a client has to say what it wants."""

_LAST = ("finished", "exec-timeout", "error")


async def execute(websocket: WebSocket) -> None:
    """Serve one connection. Raises NotFound before it is opened."""
    found = session(websocket)
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        run = await _begin(websocket, found)
        if run:
            await _attend(websocket, found, run)


async def _begin(websocket: WebSocket, found: Session) -> Run | None:
    """The run that the first frame asks for; None: it was refused."""
    try:
        async with asyncio.timeout(FIRST_S):
            text = await receive_text(websocket)
        call = typed(fold(parse(text.encode()), {}), Call)
        if call.mode != "batch":
            raise bad_mode(call.mode)
        call.runId = ""  # the connection's own: nobody else can follow it
        return ask(websocket, found, call)
    except TimeoutError:
        refusal = f"nothing was asked for within {FIRST_S:g} s"
    except SandboxdError as error:
        refusal = str(error)
        if isinstance(error, Invalid) and isinstance(error.data, dict):
            refusal += "".join(f"; {where}: {why}" for where, why in error.data.items())
    await _send(websocket, {"status": "error", "msg": refusal})
    return None


async def receive_text(websocket: WebSocket) -> str:
    """The next text frame. Raises WebSocketDisconnect when the client is gone."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        if isinstance(text := message.get("text"), str):
            return text


async def _attend(websocket: WebSocket, found: Session, run: Run) -> None:
    """Tell the client all of the run, and the run what its client types, until either ends."""
    tasks = [
        asyncio.create_task(_tell(websocket, found, run), name=f"frames {run.id}"),
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
        if not run.over:
            await _abandon(found, run)


async def _abandon(found: Session, run: Run) -> None:
    try:
        await found.runs.abandon(run)
    except SandboxdError as error:  # its limits will end it
        _log.warning("run %s cannot be ended now that its client is gone: %s", run.id, error)


async def _tell(websocket: WebSocket, found: Session, run: Run) -> None:
    """Send frame after frame, to the last."""
    while True:
        try:
            frame = await result(found, run, await run.call(terms=STREAM))
        except SandboxdError as error:
            frame = _fault(error)
        frame["options"] = frame["options"] or {}  # null would crash clients
        if await _send(websocket, frame):
            return


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
    """Send `frame`, and close if it is the last one, which is then true."""
    await websocket.send_text(to_json(frame).decode())
    if frame["status"] not in _LAST:
        return False
    await websocket.close()
    return True


async def _listen(websocket: WebSocket, run: Run) -> None:
    """Give the program what the client types, until the client is gone."""
    while True:
        text = await receive_text(websocket)
        try:
            await run.type(Input(text))
        except SandboxdError as error:
            run.notice(f"input was not taken: {error}")
