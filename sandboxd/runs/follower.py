"""The follower of one run: the control socket says that there is news, the spool has the news.

One `watch` is outstanding at any time; a newer one replaces it. A watch says how far we have read,
and the shim answers when the run has gone beyond. Console positions are watched only while a
client wants output at once; else a program that prints much would keep the daemon busy.
The end of the socket is the end of the run, and all that a call which waits for it needs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..config.settings import ConsoleConfig
from ..errors import Invalid, Unavailable
from ..model import STEPS, Sender
from ..wire import control_ops
from ..wire.messages import WireError, close_all
from .channel import Channel
from .journal import NO_POSITION, SHIM_GONE, JournalEvent, lost
from .spool_reader import SpoolReader

_log = logging.getLogger(__name__)

COALESCE_S = 0.05
"""How long new output waits for more of it; also the pause after an answer without news."""

_BACKLOG = 1000
"""Answers that are read at once: more than a socket holds."""

_PIECE = 8192
"""Characters of input in a packet: at most 12 bytes each in JSON, which fits
wire.messages.PACKET."""


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that the warden has started: its control socket and its three files, to be closed.

    restored  an earlier daemon has had it started
    """

    control: Channel
    console: int
    journal: int
    cursor: int
    restored: bool = False

    def close(self) -> None:
        """Give the descriptors back, for a caller that has not handed them to a run."""
        self.control.close()
        close_all([self.console, self.journal, self.cursor])


class Follower:
    """The view of a run that has been started; `news` is called when an attribute has changed.

    events        of the run so far; the last one is final when `over`
    awaits_input  the program waits for input
    output        there is console text beyond the position of the last `want_output`
    ended         set when `over`
    """

    def __init__(
        self,
        started: StartedRun,
        config: ConsoleConfig,
        news: Callable[[], None],
        why_lost: str = SHIM_GONE,
        wanted: int = NO_POSITION,
        passes_over: bool = False,
    ) -> None:
        """`wanted`: a client waits for output beyond this position already. `passes_over`: nobody
        waits for events before the end of the run, and they are no news until `catch_up`."""
        self.spool = SpoolReader(started.console, started.journal, config)
        self.events: list[JournalEvent] = []
        self.awaits_input = False
        self.output = False
        self.over = False
        self.ended = asyncio.Event()
        self._control = started.control
        self._news = news
        self._why_lost = why_lost
        self._wanted = wanted
        self._passes_over = passes_over
        # A new run comes with a watch of its end (shim/control.py).
        self._is_watching = passes_over and wanted == NO_POSITION and not started.restored
        # A watch replaces another. If the other is answered already, both are answered.
        self._replaced = False
        # None: an earlier daemon sent inputs, and the shim has not said yet how many.
        self._inputs: int | None = None if started.restored else 0

    async def follow(self) -> None:
        """Keep the attributes true until the run is over."""
        try:
            if not self._is_watching:
                await self._watch()
            while (answer := await self._receive()) is not None:
                self._is_watching = False
                await self._update(answer)
                if not (self.events and self.events[-1].final):
                    await self._watch()
        except OSError:
            pass  # the shim is gone
        except WireError as error:
            _log.warning("a shim sent an invalid message: %s", error)
        finally:
            self._control.close()
        if not (self.events and self.events[-1].final):
            self.events = lost(await self.spool.promptly(self.spool.events), self._why_lost)
        self.over, self.awaits_input = True, False
        self.ended.set()
        self._news()
        await asyncio.sleep(0)  # the answer that waits goes first, and then what follows the run

    async def _receive(self) -> dict[str, Any] | None:
        """The shim's newest answer; None at the end of the socket.

        Older answers add nothing to it. They must not pile up: while a program prints without end
        the shim answers each watch at once, and it drops a reader that does not read its answers.
        """
        newest = _plain(*await self._control.receive_message())
        for _ in range(_BACKLOG if newest else 0):
            arrived = self._control.arrived_message()
            message = _plain(*arrived) if arrived else None
            if message is None:
                break
            newest = message
        return newest

    async def _watch(self) -> None:
        # To a position before the beginning the shim answers at once.
        console = -1 if self._inputs is None else self._wanted
        journal = len(STEPS) if self._passes_over else len(self.events)
        watch = control_ops.WATCH.message(
            console=console, journal=journal, waiting=self.awaits_input
        )
        await self._control.send_message(watch)
        self._is_watching = True

    async def _update(self, answer: dict[str, Any]) -> None:
        """Update the attributes by the shim's answer, of which each field is untrusted."""
        before = (len(self.events), self.awaits_input, self.output)
        if answer.get("journal") != len(self.events):
            self.events = await self.spool.promptly(self.spool.events)
        if self._inputs is None:
            inputs = answer.get("inputs")
            self._inputs = inputs if isinstance(inputs, int) else 0
        # An answer from before our last input says nothing about the time after it.
        self.awaits_input = answer.get("waiting") is True and answer.get("inputs") == self._inputs
        console = answer.get("console")
        if isinstance(console, int) and console > self._wanted:
            self.output, self._wanted = True, NO_POSITION
        if before == (len(self.events), self.awaits_input, self.output):
            if not self._replaced:
                await asyncio.sleep(COALESCE_S)  # else answers without news would cost us a CPU
            self._replaced = False
        self._news()

    async def catch_up(self) -> None:
        """Read all events, and let each further one be news."""
        if self._passes_over and not self.over:
            self._passes_over = False
            self.events = await self.spool.promptly(self.spool.events)
            await self._send(None)

    async def want_output(self, position: int) -> None:
        """Set `output` as soon as the console goes beyond `position`."""
        is_watched = self._wanted == position and self._is_watching
        self.output, self._wanted = False, position
        if not (is_watched or self.over):
            await self._send(None)

    async def hold(self, position: int) -> None:
        """Have the program wait before output behind `position` is overwritten."""
        await self._send(control_ops.HOLD.message(console=position))

    async def input(self, text: str, eof: bool) -> None:
        """Give the program `text` to read, and after it the end of input if `eof`.

        Raises Invalid when the text cannot be written as UTF-8, Unavailable when the shim does
        not read it.
        """
        if self._inputs is None:
            raise Unavailable("the run is being restored after a restart of the server: try again")
        self.awaits_input = False
        pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)] or [""]
        self._inputs += len(pieces)
        for piece in pieces[:-1]:
            await self._send(control_ops.INPUT.message(text=piece, eof=False))
        await self._send(control_ops.INPUT.message(text=pieces[-1], eof=eof))
        await self._send(None)

    async def attach_stdin(self, fd: int) -> None:
        """Give the shim the socket `fd`, from which it reads a stream of input from now on."""
        await self._send(control_ops.STDIN.message(), [fd])

    async def decline(self) -> None:
        """The client goes on without answering: the step's clock runs again."""
        await self._send(control_ops.DECLINE.message())

    async def signal(self, name: str, by: Sender) -> None:
        """Send the signal called `name` to the step."""
        await self._send(control_ops.SIGNAL.message(name=name, by=by))

    async def terminate(self, by: Sender) -> None:
        """End the run with its step, which gets SIGTERM and its grace."""
        await self._send(control_ops.TERMINATE.message(by=by))

    async def kill(self, by: Sender) -> None:
        """End the run now."""
        await self._send(control_ops.KILL.message(by=by))

    async def _send(self, message: dict[str, Any] | None, fds: list[int] | None = None) -> None:
        """Send `message`, None: a watch. If the run has ended meanwhile, nothing is sent."""
        try:
            async with asyncio.timeout(2):
                if message is None:
                    self._replaced = True
                    await self._watch()
                else:
                    await self._control.send_message(message, fds)
        except TimeoutError:
            raise Unavailable("the run does not take any more input for now") from None
        except OSError:
            pass

    def close(self) -> None:
        """Stop following; `follow` comes to its end."""
        self._control.close()


def _plain(message: dict[str, Any] | None, fds: list[int]) -> dict[str, Any] | None:
    """`message`, if it came without descriptors, as a shim sends it. Raises WireError."""
    if fds:
        close_all(fds)
        raise WireError(f"{len(fds)} unexpected descriptors")
    return message


def writable(text: str) -> str:
    """`text`, if a program can read it: UTF-8, or bytes that surrogates stand for.

    Raises Invalid for other lone surrogates.
    """
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise Invalid(f"the input has no UTF-8 form at character {error.start}") from None
    return text
