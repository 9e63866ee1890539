"""The terminals of a session: runs with a user at the keyboard, beside the session's queue.

A terminal is a run like others, with a shim, limits, usage and a verdict of its own. It is not in
the queue, where it would hold up every run behind it for as long as its user likes: it begins when
a client opens it. It ends with its client: a socket ties the two, and the end of the socket hangs
the terminal up (shim/terminal.py), also when the daemon was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from ..config.settings import ConsoleConfig
from ..errors import Deleted, QuotaExceeded, SandboxdError, Unavailable
from ..model import TERMINALS_MAX
from ..wire.messages import WireError, close_all
from .channel import Channel
from .follower import StartedRun
from .journal import JournalEvent
from .plan import Plan
from .queue import CLEAR_S
from .run import Run

_log = logging.getLogger(__name__)

_PIECE = 64 * 1024
"""Bytes of input in a packet; base64 makes them 88 KiB, which fits wire.messages.PACKET."""


class TerminalHost(Protocol):
    """The services that terminals need from their session."""

    def admit_terminal(self, run: Run) -> AbstractAsyncContextManager[None]:
        """The admission of a terminal, for the time that it goes on. Raises SandboxdError when it
        may not begin now."""

    async def start_terminal(self, run: Run, seat: socket.socket) -> StartedRun:
        """Start a run on a terminal; the user has the other end of the socket `seat`."""

    async def terminal_over(self, run: Run) -> None:
        """A terminal has ended: account for it."""


class TerminalOutput(msgspec.Struct):
    """A message of a terminal: bytes that it shows, or the number of bytes of input that were
    dropped for want of room."""

    out: bytes = b""
    dropped: int = 0


class Terminal:
    """An open terminal; `run` is the run behind it, `why` the reason if we have ended it."""

    def __init__(self, run: Run, channel: Channel) -> None:
        self.run = run
        self.why = ""
        self._channel = channel

    async def type(self, data: bytes) -> None:
        """Give it input. Input after its end is lost, as on any terminal."""
        with contextlib.suppress(OSError):
            for start in range(0, len(data), _PIECE):
                piece = msgspec.to_builtins(data[start : start + _PIECE])
                await self._channel.send_message({"op": "stdin", "chars": piece})

    async def resize(self, rows: int, cols: int) -> None:
        """Give it another size."""
        with contextlib.suppress(OSError):
            await self._channel.send_message({"op": "resize", "rows": rows, "cols": cols})

    async def read(self) -> TerminalOutput | None:
        """Its next message; None at its end."""
        try:
            message, fds = await self._channel.receive_message()
            if fds:  # a shim sends none
                close_all(fds)
                raise WireError(f"{len(fds)} unexpected descriptors")
            return None if message is None else msgspec.convert(message, TerminalOutput)
        except (WireError, msgspec.ValidationError) as error:
            _log.warning("the shim of %s sent an invalid message: %s", self.run.id, error)
            return None

    async def end(self) -> JournalEvent | None:
        """Wait until all of it is over; the last event of its run, None if there is none."""
        await self.run.done.wait()
        return self.run.events[-1] if self.run.events else None

    def hang_up(self) -> None:
        """Leave it: its programs get SIGHUP, and are killed if that does not end them."""
        self._channel.close()


class Terminals:
    """The open terminals of one session."""

    def __init__(self, host: TerminalHost, config: ConsoleConfig) -> None:
        self._host = host
        self._config = config
        self._open: dict[Terminal, asyncio.Task[None]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    def open(self, plan: Plan) -> Terminal:
        """A terminal on which the plan's exec runs. Its run's `error` says if it cannot begin.

        Raises QuotaExceeded when too many are open, Unavailable when the session is gone.
        """
        if self._closed:
            raise Deleted("session")
        if len(self._open) >= TERMINALS_MAX:
            raise QuotaExceeded(f"at most {TERMINALS_MAX} terminals of a session may be open")
        ours, seat = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        run = Run(f"terminal-{secrets.token_hex(8)}", plan, self._config)
        terminal = Terminal(run, Channel(ours))
        task = asyncio.create_task(self._carry_out(terminal, seat), name=run.id)
        self._open[terminal] = task
        return terminal

    async def _carry_out(self, terminal: Terminal, seat: socket.socket) -> None:
        run = terminal.run
        try:
            try:
                async with self._host.admit_terminal(run):
                    await run.follow(await self._start(run, seat))
            except SandboxdError as error:
                run.fail(error)
            except Exception:  # a bug in sandboxd ends this terminal, and not the session
                _log.exception("%s cannot be followed", run.id)
                run.fail(Unavailable("the terminal cannot be followed any more"))
            finally:
                seat.close()
                del self._open[terminal]
                run.done.set()
            await self._host.terminal_over(run)
        finally:
            await run.close()

    async def _start(self, run: Run, seat: socket.socket) -> StartedRun:
        with seat:  # the shim has a copy; an open one here would prevent the hang-up
            return await self._host.start_terminal(run, seat)

    async def end(self, terminal: Terminal) -> None:
        """End all of it now. Raises Unavailable when it does not come to its end."""
        try:
            async with asyncio.timeout(CLEAR_S):
                await terminal.run.kill()
                await terminal.run.done.wait()
        except TimeoutError:
            raise Unavailable("the terminal does not come to its end") from None

    async def clear(self, why: str) -> None:
        """End all open terminals, and tell their users why; new ones may follow."""
        for terminal in list(self._open):
            terminal.why = why
            await self.end(terminal)

    async def close(self, why: str) -> None:
        """Give everything back; the end of the session ends the processes."""
        self._closed = True
        for terminal, task in list(self._open.items()):
            terminal.why = why
            terminal.run.vanish()
            terminal.hang_up()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
