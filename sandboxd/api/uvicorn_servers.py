"""The two servers of the api process: uvicorn with our protocols, settings and ways to end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Literal

import uvicorn
from starlette.applications import Starlette

from .. import log
from ..config.settings import HttpConfig
from ..errors import Unavailable
from .http.body_budget import BodyBudget
from .http.connections import BACKLOG, Connections
from .http.http_protocol import HttpProtocol
from .http.ws_protocol import WebSocketProtocol
from .processes.warden_client import WardenClient
from .state import AppState

GRACE_S = 3
"""Seconds that requests get at the end of the server; an execute call waits 2 s at most."""

LAST_FRAMES_S = 0.1
"""Seconds for the last frames of WebSockets, which uvicorn closes then."""

KEEP_ALIVE_S = 30

DRAINED_S = 3.0
"""Seconds from the end of the last run to the end of the server, so that clients get the result."""

MONITOR_MAX = 64
"""Connections of the metrics listener, which are not taken from those of the API."""

MONITOR_BODIES = 1 << 20
"""Bytes of messages to the metrics listener, which serves none."""

_BROKEN_OFF = "ASGI callable returned without completing response."
"""uvicorn's complaint about a response that ends early; the audit log has it, with the cause."""


def quiet_uvicorn() -> None:
    """Keep uvicorn's reports about itself, and its complaints without a cause, out of the log."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(lambda line: line.msg != _BROKEN_OFF)


def _settings(application: Starlette, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


class _RestingServer(uvicorn.Server):
    """uvicorn's server without the tick that wakes it up ten times a second: `ended` ends it, and
    the date of a response comes from Connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = asyncio.Event()

    async def main_loop(self) -> None:
        """Return when the server is to end, and streams have had a moment to say so."""
        await self.ended.wait()
        await asyncio.sleep(LAST_FRAMES_S)


class MonitorServer(_RestingServer):
    """The server for Prometheus and health checks: it starts before the API and ends with it."""

    def __init__(self, application: Starlette, http: HttpConfig) -> None:
        super().__init__(_settings(application, lifespan="off"))
        own = dataclasses.replace(http, connections=MONITOR_MAX)
        self.server_state = Connections(own, BodyBudget(MONITOR_BODIES))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the other server."""
        yield


class ApiServer(_RestingServer):
    """The server of the API: it reports to the warden, and drains before it stops."""

    def __init__(
        self,
        application: Starlette,
        warden: WardenClient,
        state: AppState,
        connections: Connections,
    ) -> None:
        super().__init__(_settings(application, lifespan="on"))
        self.ready = asyncio.Event()
        self.server_state = connections
        self._warden = warden
        self._state = state
        self._draining: asyncio.Task[None] | None = None

    @property
    def refusing(self) -> str:
        """Why the server takes no new work, "" if it does."""
        return "stopping" if self.should_exit else "" if self.started else "starting"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and tell the warden."""
        await super().startup(sockets)
        with contextlib.suppress(Unavailable):  # then the link ends, and with it the server
            await self._warden.ready()
            self.ready.set()

    def stop(self, why: str) -> None:
        """End soon: requests get GRACE_S."""
        if not self.should_exit:
            log.event("api.ends", reason=why)
        self.should_exit = True
        self.ended.set()
        self._state.sessions.suspend()

    def on_signal(self, name: str) -> None:
        """SIGTERM or SIGINT: stop, or drain first if `stop` is configured so. A second signal
        stops at once."""
        stop = self._state.config.stop
        if stop.runs != "drain" or self._draining:
            self.stop(name)
            return
        self._state.drain.begin(stop.grace_s)
        self._draining = asyncio.create_task(self._stop_when_drained(), name="stop")

    async def _stop_when_drained(self) -> None:
        await self._state.drain.drained.wait()
        await asyncio.sleep(DRAINED_S)
        self.stop("drained")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End the server at SIGTERM and SIGINT. uvicorn's own method raises the signal once more
        at the end, which would look like a crash to the warden."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        ending = (signal.SIGTERM, signal.SIGINT)
        for number in ending:
            loop.add_signal_handler(number, self.on_signal, number.name)
        try:
            yield
        finally:
            for number in ending:
                loop.remove_signal_handler(number)
