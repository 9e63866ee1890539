"""The streams of a run's standard input, from the client to the shim.

Each request of a client has a stream with a socket of its own to the shim (shim/input_stream.py).
The kernel holds the client back while the program does not read: nothing here stores data. The shim
counts the bytes, and outlives the daemon. So a client whose connection broke can go on at the right
byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

from ..errors import Invalid, SandboxdError, Unavailable
from ..wire.messages import INPUT_DATA, INPUT_END, INPUT_PIECE, INPUT_REPORT, WireError, close_all
from .channel import Channel
from .follower import Follower

_log = logging.getLogger(__name__)

END_S = 2.0
"""Seconds that a run may take to its end after its shim has closed the socket."""


class StdinStream:
    """The stream of one request. Without a channel, the run takes no input any more.

    taken   bytes of input that the run has taken so far, from all requests
    ended   the end of input has come
    closed  the program reads no more, or has ended
    gone    set when the stream takes no more
    error   the reason for which the daemon has ended the stream
    """

    def __init__(self, channel: Channel | None, taken: int = 0) -> None:
        self.taken = taken
        self.ended = False
        self.closed = channel is None
        self.gone = asyncio.Event()
        self.error: SandboxdError | None = None
        self.reports = 0
        self._channel = channel
        self._news = asyncio.Event()
        if channel is None:
            self.gone.set()

    async def listen(self) -> None:
        """Keep the attributes true until the end of the channel."""
        assert self._channel is not None
        try:
            while True:
                message, fds = await self._channel.receive_message()
                close_all(fds)
                if message is None:
                    return
                self._update(message)
        except WireError as error:
            _log.warning("a shim sent an invalid report: %s", error)
        finally:
            self.gone.set()
            self._news.set()

    def _update(self, report: dict[str, object]) -> None:
        taken = report.get("taken")
        self.taken = taken if isinstance(taken, int) and taken >= 0 else self.taken
        self.ended = report.get("ended") is True
        self.closed = report.get("closed") is True
        self.reports += 1
        if self.closed:
            self.gone.set()
        self._news.set()

    async def report(self, number: int) -> None:
        """Wait for this report of the shim, or until the stream is gone."""
        while self.reports < number and not self.gone.is_set():
            self._news.clear()
            await self._news.wait()

    async def write(self, data: bytes) -> None:
        """Give the program `data`, as fast as the program reads it. Raises Invalid after the end
        of input."""
        if self.ended:
            raise Invalid("the standard input of this run has ended already")
        for start in range(0, len(data), INPUT_PIECE):
            await self._send(INPUT_DATA + data[start : start + INPUT_PIECE])

    async def finish(self, eof: bool) -> None:
        """Wait until the run has taken all data, and with `eof` end the input."""
        number = self.reports + 1
        await self._send(INPUT_END if eof else INPUT_REPORT)
        await self.report(number)

    async def _send(self, packet: bytes) -> None:
        if self._channel:
            try:
                await self._channel.send_packet(packet)
            except OSError:  # the shim has ended, or the stream
                await self.gone.wait()

    def end(self, error: SandboxdError | None) -> None:
        """End the stream. `error` is for its client; None: the run is over."""
        self.error = self.error or error
        if self._channel:
            self._channel.close()

    def check(self) -> None:
        """Raise the reason for which the daemon has ended the stream, if it has."""
        if self.error:
            raise self.error


class RunInput:
    """The standard input of one run: one stream at a time."""

    def __init__(self) -> None:
        self._active: StdinStream | None = None
        self._taken = 0

    def end(self, error: SandboxdError | None) -> None:
        """End the stream that is open. `error` is for its client; None: the run is over."""
        if self._active:
            self._active.end(error)

    @contextlib.asynccontextmanager
    async def stream(
        self, follower: Follower | None, offset: int | None
    ) -> AsyncIterator[StdinStream]:
        """A stream that begins behind `offset` bytes of input; None: behind all that were taken.

        A client that names an offset takes over from a stream whose connection may be dead. Raises
        Invalid when that is not where the run is, Unavailable when the shim takes no stream.
        """
        if follower is None or follower.over:
            yield StdinStream(None, self._taken)
            return
        if self._active and offset is None:
            busy = "another request streams the input of this run; an `offset` takes it over"
            raise Invalid(busy)
        self.end(Invalid("another request has taken over the standard input of this run"))
        end, shims_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with shims_end, contextlib.closing(Channel(end)) as channel:
            await follower.attach_stdin(shims_end.fileno())
            shims_end.close()
            stream = self._active = StdinStream(channel, self._taken)
            listening = asyncio.create_task(stream.listen(), name="input reports")
            try:
                await self._check(stream, follower, offset)
                yield stream
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
                self._taken = max(self._taken, stream.taken)
                if self._active is stream:
                    self._active = None

    async def _check(self, stream: StdinStream, follower: Follower, offset: int | None) -> None:
        await stream.report(1)
        if not stream.reports:
            await _ended(follower)
            stream.closed = True
        if offset not in (None, stream.taken) and not stream.closed:
            place = f"the run has taken {stream.taken} bytes of input"
            raise Invalid.of({"offset": place})


async def _ended(follower: Follower) -> None:
    """Wait until the run is over. Raises Unavailable when the run goes on: its shim does not know
    streams."""
    try:
        async with asyncio.timeout(END_S):
            await follower.ended.wait()
    except TimeoutError:
        old = "an earlier version of sandboxd has begun this run: its input cannot be streamed"
        raise Unavailable(old) from None
