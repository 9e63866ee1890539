"""The terminals of a session: runs that somebody sits at, beside the session's line.

A terminal is a run like others, with a shim, limits, usage and a verdict of its own. It is not
in the line, where it would hold up every run behind it for as long as its user likes: it begins
when a client opens it. It ends with its client: the two are tied by a socket whose end, also
that of a daemon that was killed, hangs the terminal up (shim/terminal.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import msgspec

from ..config import ConsoleConfig
from ..errors import QuotaExceeded, SandboxdError, Unavailable
from ..model import TERMINALS_MAX
from ..wire import WireError
from .channel import Channel
from .follower import StartedRun
from .journal import JournalEvent
from .queue import CLEAR_S
from .run import Plan, Run

_log = logging.getLogger(__name__)

_PIECE = 64 * 1024
"""Bytes of input in a packet; base64 makes them 88 KiB, which fits wire.PACKET."""

Begin = Callable[[Run, socket.socket], Awaitable[StartedRun]]
"""Starts a run on a terminal whose user has the other end of the socket."""


Place = Callable[[Run], AbstractAsyncContextManager[None]]
"""Held while a run goes on. Raises SandboxdError when there is none."""


class TerminalOutput(msgspec.Struct):
    """What a terminal tells: bytes that it shows, or how many of its input it had no room for."""

    out: bytes = b""
    dropped: int = 0


class Terminal:
    """One that is open; `run` is the run behind it, `why` the reason if we have ended it."""

    def __init__(self, run: Run, channel: Channel) -> None:
        self.run = run
        self.why = ""
        self._channel = channel

    async def type(self, data: bytes) -> None:
        """Give it input. What is typed when it has ended is lost, as on any terminal."""
        with contextlib.suppress(OSError):
            for start in range(0, len(data), _PIECE):
                piece = msgspec.to_builtins(data[start : start + _PIECE])
                await self._channel.send_message({"op": "stdin", "chars": piece})

    async def resize(self, rows: int, cols: int) -> None:
        """Give it another size."""
        with contextlib.suppress(OSError):
            await self._channel.send_message({"op": "resize", "rows": rows, "cols": cols})

    async def read(self) -> TerminalOutput | None:
        """What it tells next; None at its end."""
        try:
            message, fds = await self._channel.receive_message()
            for fd in fds:  # a shim has none to give
                raise WireError(f"unexpected descriptor {fd}")
            return None if message is None else msgspec.convert(message, TerminalOutput)
        except (WireError, msgspec.ValidationError) as error:
            _log.warning("the shim of %s sent what is no message: %s", self.run.id, error)
            return None

    async def end(self) -> JournalEvent | None:
        """Wait until all of it is over; the last event of its run, None if there is none."""
        await self.run.done.wait()
        return self.run.events[-1] if self.run.events else None

    def hang_up(self) -> None:
        """Leave it: its programs are told (SIGHUP), and killed if that does not end them."""
        self._channel.close()


class Terminals:
    """Those of one session. `over` is told of each run that has ended."""

    def __init__(
        self,
        begin: Begin,
        keep: ConsoleConfig,
        over: Callable[[Run], Awaitable[None]],
        place: Place,
    ) -> None:
        self._begin = begin
        self._place = place
        self._keep = keep
        self._over = over
        self._open: dict[Terminal, asyncio.Task[None]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    def open(self, plan: Plan) -> Terminal:
        """A terminal on which the plan's exec runs. Its run's `error` says if it cannot begin.

        Raises QuotaExceeded when there are as many as may be, Unavailable when the session is
        gone.
        """
        if self._closed:
            raise Unavailable("the session is being destroyed")
        if len(self._open) >= TERMINALS_MAX:
            raise QuotaExceeded(f"at most {TERMINALS_MAX} terminals of a session may be open")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        run = Run(f"terminal-{secrets.token_hex(8)}", plan, self._keep)
        terminal = Terminal(run, Channel(ours))
        task = asyncio.create_task(self._see_through(terminal, theirs), name=run.id)
        self._open[terminal] = task
        return terminal

    async def _see_through(self, terminal: Terminal, theirs: socket.socket) -> None:
        try:
            await self._carry_out(terminal, theirs)
        finally:
            await terminal.run.close()

    async def _carry_out(self, terminal: Terminal, theirs: socket.socket) -> None:
        run = terminal.run

        async def begin(run: Run) -> StartedRun:
            with theirs:
                return await self._begin(run, theirs)

        try:
            async with self._place(run):
                await run.carry_out(begin)
        except SandboxdError as error:
            run.fail(error)
        except Exception:  # a mistake of ours ends this terminal, not the session
            _log.exception("%s cannot be followed", run.id)
            run.fail(Unavailable("the terminal cannot be followed any more"))
        finally:
            theirs.close()
            del self._open[terminal]
            run.done.set()
        await self._over(run)

    async def end(self, terminal: Terminal) -> None:
        """End all of it now. Raises Unavailable when it does not come to its end."""
        try:
            async with asyncio.timeout(CLEAR_S):
                await terminal.run.kill()
                await terminal.run.done.wait()
        except TimeoutError:
            raise Unavailable("the terminal does not come to its end") from None

    async def clear(self, why: str) -> None:
        """End all that are open, and tell their users why; new ones may follow."""
        for terminal in list(self._open):
            terminal.why = why
            await self.end(terminal)

    async def close(self, why: str) -> None:
        """Give everything back; whoever ends the session ends the processes."""
        self._closed = True
        for terminal, task in list(self._open.items()):
            terminal.why = why
            terminal.run.vanish()
            terminal.hang_up()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
