"""The route of terminals: WebSocket /stream/session/{ref}/pty, as long as its client stays.

frames.py has the frames. The shell is a run beside the run queue of the session
(runs/terminals.py). It ends when its client leaves, or types nothing for too long. When the shell
or the session ends, the client gets a frame, and the connection is closed with 1000.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

from starlette.websockets import WebSocket, WebSocketDisconnect

from ...config.settings import Config
from ...errors import Invalid, SandboxdError
from ...model import STEPS, Step
from ...runs.journal import JournalEvent
from ...runs.plan import Plan
from ...runs.terminals import Terminal
from ...runtimes import Runtime
from ...store.sessions import SessionRow
from ..access.parameters import NoParameters, query_parameters
from ..http.problems import client_text
from ..options import granted_limits
from ..sessions.session import Session
from ..state import session, state
from ..telemetry.audit_log import annotate
from . import frames
from .execute import wording
from .stream import receive_text

SHELL = "exec bash"
"""The program on a terminal: an interactive shell."""


async def pty(websocket: WebSocket) -> None:
    """WebSocket /stream/session/{ref}/pty: a terminal. Raises Invalid, NotFound, QuotaExceeded
    before it is opened."""
    query_parameters(websocket, NoParameters)
    target, app = session(websocket), state(websocket)
    plan = plan_of(target.row, app.runtimes.resolve(target.row.runtime), app.config)
    seat = _Seat(websocket, target, plan, app.config.terminal.idle_s)
    annotate(websocket, run=seat.terminal.run.id)
    try:
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            await seat.serve()
    finally:
        seat.terminal.hang_up()


def plan_of(row: SessionRow, runtime: Runtime, config: Config) -> Plan:
    """The plan of a terminal in this session: its shell, with its limits."""
    times = {"wall_s": config.terminal.wall_s, "cpu_s": config.ceiling.cpu_s}
    most = replace(config.ceiling, wall_s=config.terminal.wall_s)
    limits, _ = granted_limits.step_limits(
        config.limits.exec, row.limits, times, most, config.run_files
    )
    environ = {
        "TERM": "xterm-256color",
        **runtime.variables(row.network is not None),
        **row.environ,
    }
    steps = (Step(name, SHELL if name == "exec" else None, limits) for name in STEPS)
    return Plan(tuple(steps), environ)


class _Seat:
    """The connection of a client to its terminal, or to a new one after a restart."""

    def __init__(self, websocket: WebSocket, session: Session, plan: Plan, idle_s: float) -> None:
        self._websocket = websocket
        self._session = session
        self._plan = plan
        self._idle_s = idle_s
        self._size: tuple[int, int] | None = None
        self._wording = wording(websocket)
        self.terminal = session.terminals.open(plan)

    async def serve(self) -> None:
        """Serve until the end. Raises WebSocketDisconnect when the client leaves."""
        try:
            while await self._sit():
                await self._begin_anew()
        except SandboxdError as error:
            await self._send(frames.error(client_text(error)))
        await self._websocket.close(reason=self.terminal.why)

    async def _begin_anew(self) -> None:
        """End everything on the terminal, and begin a new one."""
        await self._session.terminals.end(self.terminal)
        self.terminal.hang_up()
        self.terminal = self._session.terminals.open(self._plan)
        if self._size:
            await self.terminal.resize(*self._size)

    async def _sit(self) -> bool:
        """Serve the terminal; true if its user wants a new one."""
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
        """Send the output of the terminal, and then its end with the reason."""
        while (shown := await terminal.read()) is not None:
            if shown.out:
                await self._send(frames.out(shown.out))
            if shown.dropped:
                text = f"{shown.dropped} bytes of input were dropped: no program reads them"
                await self._send(frames.error(text))
        terminal.hang_up()
        event = await terminal.end()
        if text := self._why(terminal):
            await self._send(frames.error(text))
        await self._send(frames.end(None if terminal.why else event and self._worded(event)))

    def _why(self, terminal: Terminal) -> str:
        """The message for the user about the end; "" if just the shell has ended."""
        if terminal.why:
            return terminal.why
        if terminal.run.error:
            return client_text(terminal.run.error)
        event = terminal.run.events[-1] if terminal.run.events else None
        if event is None or event.fault or event.verdict is None:
            return event.fault if event else "the terminal ended unexpectedly"
        if event.verdict.limit == "wall_s":
            wall_s = terminal.run.plan.steps[-1].limits.wall_s
            return f"the wall time of a terminal, {wall_s:g} s, is over"
        verdict = self._worded(event).verdict
        return verdict.advice if verdict and verdict.outcome in ("limit", "fault") else ""

    def _worded(self, event: JournalEvent) -> JournalEvent:
        """The event with an advice in the words of this client."""
        if event.verdict is None:
            return event
        exec, limits = self._plan.steps[-1], self._session.row.limits
        advice = self._wording.advice(event.verdict.advice, exec, limits)
        return replace(event, verdict=replace(event.verdict, advice=advice))

    async def _listen(self) -> bool:
        """Pass the frames of the client on. Returns true when its user wants a new terminal, false
        after too long without input."""
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
                await self._send(frames.error(client_text(error)))
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
