"""WebSocket /stream/session/{ref}/pty: a terminal in the session, for as long as its client stays.

frames.py has the frames. The shell is a run beside the session's line (runs/terminals.py). It
ends when its client leaves or types nothing for too long; when the shell ends, or the session,
the client is told and the connection is closed with 1000.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

from starlette.websockets import WebSocket, WebSocketDisconnect

from ...config import Config
from ...errors import Invalid, SandboxdError
from ...model import STEPS, Step
from ...runs.terminals import Terminal
from ...runs.values import Plan
from ...runtimes import Runtime
from ...store.sessions import SessionRow
from ..sessions import sizes
from ..sessions.session import Session
from ..state import session, state
from ..telemetry.audit_log import annotate
from . import frames
from .stream import receive_text

SHELL = "exec bash"
"""What runs on a terminal: a shell that sees that it is at one."""


async def pty(websocket: WebSocket) -> None:
    """Serve one connection. Raises NotFound, QuotaExceeded before it is opened."""
    found, here = session(websocket), state(websocket)
    plan = plan_of(found.row, here.runtimes.resolve(found.row.runtime), here.config)
    seat = _Seat(websocket, found, plan, here.config.terminal.idle_s)
    annotate(websocket, run=seat.terminal.run.id)
    try:
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            await seat.serve()
    finally:
        seat.terminal.hang_up()


def plan_of(row: SessionRow, runtime: Runtime, config: Config) -> Plan:
    """What a terminal of this session runs, and with which limits."""
    times = {"wall_s": config.terminal.wall_s, "cpu_s": config.ceiling.cpu_s}
    most = replace(config.ceiling, wall_s=config.terminal.wall_s)
    limits, _ = sizes.step_limits(config.limits.exec, row.limits, times, most)
    environ = {"TERM": "xterm-256color", **runtime.environ, **row.environ}
    steps = (Step(name, SHELL if name == "exec" else None, limits) for name in STEPS)
    return Plan(tuple(steps), environ)


class _Seat:
    """A client at a terminal, and, when it has restarted that, at the next."""

    def __init__(self, websocket: WebSocket, found: Session, plan: Plan, idle_s: float) -> None:
        self._websocket = websocket
        self._session = found
        self._plan = plan
        self._idle_s = idle_s
        self._size: tuple[int, int] | None = None
        self.terminal = found.terminals.open(plan)

    async def serve(self) -> None:
        """Until the end. Raises WebSocketDisconnect when the client leaves."""
        try:
            while await self._sit():
                await self._begin_anew()
        except SandboxdError as error:
            await self._send(frames.error(str(error)))
        await self._websocket.close(reason=self.terminal.why)

    async def _begin_anew(self) -> None:
        """End everything on the terminal, and sit down at a new one."""
        await self._session.terminals.end(self.terminal)
        self.terminal.hang_up()
        self.terminal = self._session.terminals.open(self._plan)
        if self._size:
            await self.terminal.resize(*self._size)

    async def _sit(self) -> bool:
        """Sit at the terminal; whether its user wants another."""
        showing = asyncio.create_task(
            self._show(self.terminal), name=f"show {self.terminal.run.id}"
        )
        listening = asyncio.create_task(self._listen(), name=f"hear {self.terminal.run.id}")
        try:
            await asyncio.wait((showing, listening), return_when=asyncio.FIRST_COMPLETED)
            if not showing.done() and listening.result():
                return True
            await showing
            return False
        finally:
            showing.cancel()
            listening.cancel()
            await asyncio.gather(showing, listening, return_exceptions=True)

    async def _show(self, terminal: Terminal) -> None:
        """Send what the terminal shows, to its end and why that came."""
        while (shown := await terminal.read()) is not None:
            if shown.out:
                await self._send(frames.out(shown.out))
            if shown.dropped:
                text = f"{shown.dropped} bytes of input were dropped: nothing on the terminal reads"
                await self._send(frames.error(text))
        terminal.hang_up()
        event = await terminal.end()
        if text := self._why(terminal):
            await self._send(frames.error(text))
        await self._send(frames.end(None if terminal.why else event))

    @staticmethod
    def _why(terminal: Terminal) -> str:
        """What its user should know about its end, "" if it was just that of the shell."""
        if terminal.why or terminal.run.error:
            return terminal.why or str(terminal.run.error)
        event = terminal.run.events[-1] if terminal.run.events else None
        if event is None or event.fault or event.verdict is None:
            return event.fault if event else "the terminal ended unexpectedly"
        if event.verdict.limit == "wall_s":
            return (
                f"the time for a terminal, {terminal.run.plan.steps[-1].limits.wall_s:g} s, is over"
            )
        return event.verdict.advice if event.verdict.outcome in ("limit", "fault") else ""

    async def _listen(self) -> bool:
        """Hand on what the user does until he wants a new terminal, or nothing any more."""
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    text = await receive_text(self._websocket)
            except TimeoutError:
                self.terminal.why = f"closed after {self._idle_s:g} s without input"
                self.terminal.hang_up()
                return False
            self._session.used_at = time.time()
            try:
                frame = frames.read(text)
            except Invalid as error:
                await self._send(frames.error(str(error)))
                continue
            if isinstance(frame, frames.RestartFrame):
                return True
            await self._act(frame)

    async def _act(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.StdinFrame):
            await self.terminal.type(frame.chars)
        elif isinstance(frame, frames.ResizeFrame):
            self._size = frame.rows, frame.cols
            await self.terminal.resize(*self._size)

    async def _send(self, frame: str) -> None:
        await self._websocket.send_text(frame)
