"""The route of a followed run: WebSocket /stream/session/{ref}/execute, a run on one connection.

    client  one text frame, {"mode": "batch", "code": "", "options": {...}}. Every further text
            frame is input for the program; binary frames are ignored.
            With a runId the run goes on when the connection breaks, and a client takes it up
            again with {"mode": "continue", "runId", "options": {"offset"}}
    server  frames {"status", "exitCode", "console", "options", "files"} to the end of the run,
            and closes. If the first frame is refused: {"status": "error", "msg"}, with the same
            text as a log item in "console", and closes

A run without a runId belongs to the connection: when its client leaves, the run is interrupted, and
killed if it does not end then. At the end of the daemon the connection is closed with 1012 (service
restart, in the registry of RFC 6455), and no run ends. The client of a run without a runId gets a
frame {"status": "server-restarting", "msg", "console"} before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocket, WebSocketDisconnect

from ...errors import Invalid, SandboxdError
from ...runs.client_calls import Input
from ...runs.console_items import log
from ...runs.cursor import Offset
from ...runs.polling import STREAM, PollPolicy
from ...runs.run import Run
from ..access.parameters import NoParameters, fold, inner, parse, query_parameters, typed
from ..http.delivery import expect_handed_over
from ..http.problems import client_text
from ..http.responses import to_json
from ..sessions.session import Session
from ..state import session
from .execute import Call, CallOptions, bad_mode, cursor_of, result, submit, wording

_log = logging.getLogger(__name__)

FRAMES = (__doc__ or "").partition("\n\n")[2]
"""The description of the frames, for the OpenAPI document."""

FIRST_S = 30.0
"""Seconds that a client has for its first frame."""

SERVICE_RESTART = 1012
LEFT_ALONE = "sandboxd ends or restarts: the run goes on, and its output is in the session's log"

_LAST = ("finished", "exec-timeout", "error")


async def execute(websocket: WebSocket) -> None:
    """WebSocket /stream/session/{ref}/execute: a run on one connection. Raises Invalid, NotFound
    before it is opened."""
    query_parameters(websocket, NoParameters)
    target = session(websocket)
    await websocket.accept()
    with suppress(WebSocketDisconnect, ClientDisconnect):
        if followed := await _begin(websocket, target):
            await _attend(websocket, target, followed)


@dataclass(frozen=True, slots=True)
class _FollowedRun:
    """The run of a connection.

    own     the run belongs to the connection, since its client cannot name it
    cursor  how far the client has the output, if it says so
    policy  the form of the frames
    """

    run: Run
    own: bool
    cursor: Offset | None
    policy: PollPolicy


async def _begin(websocket: WebSocket, target: Session) -> _FollowedRun | None:
    """The run that the first frame requests; None: the frame was refused."""
    try:
        async with asyncio.timeout(FIRST_S):
            text = await receive_text(websocket)
        call = typed(fold(parse(text.encode()), {}), Call)
        options = inner(call, "options", CallOptions)
        cursor, policy = cursor_of(options.offset), options.policy(STREAM)
        if call.mode == "continue":
            return _FollowedRun(target.runs.get(call.runId), False, cursor, policy)
        if call.mode != "batch":
            raise bad_mode(call.mode)
        run = await submit(websocket, target, call, policy)
        return _FollowedRun(run, not call.runId, cursor, policy)
    except TimeoutError:
        refusal = f"no frame came within {FIRST_S:g} s"
    except SandboxdError as error:
        refusal = client_text(error)
        if isinstance(error, Invalid) and isinstance(error.data, dict):
            refusal += "".join(f"; {where}: {why}" for where, why in error.data.items())
    await _send(websocket, _message("error", refusal, "error"))
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


async def _attend(websocket: WebSocket, target: Session, followed: _FollowedRun) -> None:
    """Send the run to the client, and its input to the run, until either ends."""
    run = followed.run
    tasks = [
        asyncio.create_task(_follow(websocket, target, followed), name=f"frames {run.id}"),
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
        if followed.own and not run.over and not run.suspended:
            await _abandon(target, run)


async def _abandon(target: Session, run: Run) -> None:
    try:
        await target.runs.abandon(run)
    except SandboxdError as error:  # its limits will end it
        _log.warning("run %s cannot be ended now that its client is gone: %s", run.id, error)


async def _follow(websocket: WebSocket, target: Session, followed: _FollowedRun) -> None:
    """Send frame after frame, to the last."""
    run, cursor = followed.run, followed.cursor
    while not run.suspended:
        try:
            async with run.call(policy=followed.policy, since=cursor) as reply:
                frame = await result(target, run, reply, wording(websocket))
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
        cursor = None
    if followed.own:  # its client has no runId to take the run up again
        await _send(websocket, _message("server-restarting", LEFT_ALONE, "warning"))
    await websocket.close(SERVICE_RESTART)


def _message(status: str, why: str, level: str) -> dict[str, Any]:
    """A frame without a result. Clients print its console, and not its msg."""
    return {"status": status, "msg": why, "options": {}, "console": [log(level, why)]}


def _fault(error: SandboxdError) -> dict[str, Any]:
    """The last frame of a run that the server failed to start; its console says why."""
    return {
        "status": "finished",
        "exitCode": -1,
        "options": {},
        "files": [],
        "console": [log("error", client_text(error))],
    }


async def _send(websocket: WebSocket, frame: Mapping[str, Any]) -> bool:
    """Send `frame`; true if it is the last one."""
    await websocket.send_text(to_json(frame).decode())
    return frame["status"] in _LAST


async def _listen(websocket: WebSocket, run: Run) -> None:
    """Pass the input of the client to the program, until the client is gone."""
    while True:
        text = await receive_text(websocket)
        try:
            await run.type(Input(text))
        except SandboxdError as error:
            run.notice(f"input was not taken: {client_text(error)}")
