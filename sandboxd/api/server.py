"""The api process: uvicorn, the link to the warden, and how both end.

`run` is called in a process that has already given up root. It serves until SIGTERM or until
the warden is gone, whichever comes first; then running requests get a moment to end, and the
sessions stay as they are for the next daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import shlex
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette

from .. import log, runtimes
from ..config import Config, HttpConfig
from ..errors import Unavailable
from ..model import Guarantee
from ..store import keypairs
from ..store.database import Database
from ..systemd import watchdog_s
from . import app, reload
from .access.authentication import Authenticator
from .access.keys import Keys
from .access.parameters import BodyBudget
from .folders.registry import FolderRegistry
from .folders.tokens import Tokens
from .http.connections import BACKLOG, Connections, complain_less
from .http.http_protocol import SERVER, HttpProtocol
from .http.ws_protocol import WebSocketProtocol
from .routes.drain import Drain
from .routes.health import Health
from .routes.health import monitor as make_monitor
from .routes.leaks import Leaks
from .sessions.admission import DRAINED, Admission
from .sessions.capacity import HostCapacity
from .sessions.clock_watch import ClockWatch
from .sessions.deferred_writes import DeferredWrites
from .sessions.gauges import readings
from .sessions.reaper import reap
from .sessions.registry import SessionRegistry
from .sessions.services import Services
from .sessions.warden_client import WardenClient
from .state import AppState
from .telemetry.accounting import RunAccounting
from .telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

GRACE_S = 3
"""Seconds that running requests get at the end; a call waits 2 s at most."""

KEEP_ALIVE_S = 30

DRAINED_S = 3.0
"""Seconds from the end of the last run to that of the server, for clients to hear of it."""

BROKEN_OFF = "ASGI callable returned without completing response."
"""What uvicorn says when an answer ends early; audit_log.py has told it, with the cause."""


def run(
    config: Config,
    warden: socket.socket,
    listeners: list[socket.socket],
    database: str,
    monitor: socket.socket | None = None,
    guarantees: tuple[Guarantee, ...] = (),
) -> None:
    """Serve the API on `listeners` until SIGTERM or until `warden` closes; metrics and health on
    `monitor`.

    `database` is the path of the SQLite file, `guarantees` what the warden found out at start.
    Raises ConfigError when the database cannot be used.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two files for each run kept
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # at info it tells about itself
    logging.getLogger("uvicorn.error").addFilter(lambda line: line.msg != BROKEN_OFF)
    store = Database(database)
    try:
        _warn_if_locked_out(config, listeners, store)
        asyncio.run(_serve(config, warden, listeners, store, monitor, guarantees))
    finally:
        store.close()


def _warn_if_locked_out(config: Config, listeners: list[socket.socket], store: Database) -> None:
    """Say so when there is a network listener and nobody who could sign a request."""
    network = any(listener.family != socket.AF_UNIX for listener in listeners)
    if network and config.auth != "none" and not keypairs.all_keypairs(store):
        command = f"sandboxd keypair create --state-dir {shlex.quote(config.state_dir)}"
        _log.warning("nobody can sign requests yet; make a keypair: %s", command)


async def _serve(
    config: Config,
    warden: socket.socket,
    listeners: list[socket.socket],
    store: Database,
    monitor: socket.socket | None,
    guarantees: tuple[Guarantee, ...],
) -> None:
    complain_less(asyncio.get_running_loop())
    metrics = Metrics()
    client = WardenClient(warden, metrics.warden_answered)
    health = Health(config, client, store, metrics)
    leaks = Leaks(client, store, metrics)
    admission = Admission(config, HostCapacity(os.path.dirname(store.path)))
    accounting = RunAccounting(metrics, config.console)
    services = Services(client, store, admission, accounting, DeferredWrites(store))
    sessions = SessionRegistry(services)
    keys, clock = Keys(store), ClockWatch(store)
    state = AppState(
        config,
        runtimes.load(config),
        sessions,
        FolderRegistry(services, sessions),
        Tokens(config.folders.token_s),
        Authenticator(config, keys),
        metrics,
        health,
        leaks,
        BodyBudget(config.http.bodies),
        Drain(admission),
        guarantees,
    )
    metrics.reading(lambda: readings(sessions))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await clock.begin()
        await state.folders.restore()
        await sessions.restore()
        await sessions.resume(state.runtimes)
        reaper = asyncio.create_task(reap(sessions, keys, clock), name="reaper")
        reaper.add_done_callback(lambda _: server.stop("nothing ends idle sessions any more"))
        try:
            yield
        finally:
            reaper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reaper
            await sessions.close()

    connections = Connections(config.http)
    server = ApiServer(app.make(state, lifespan), client, state, connections)
    renewing: set[asyncio.Task[None]] = set()

    def renew(table: dict[str, Any]) -> None:
        task = asyncio.create_task(reload.apply(state, connections, table), name="reload")
        renewing.add(task)
        task.add_done_callback(renewing.discard)

    def telling(line: logging.LogRecord) -> bool:
        """uvicorn calls a start that the end of the warden has broken off a fault of ours."""
        return not client.gone or server.started or line.levelno < logging.ERROR

    logging.getLogger("uvicorn.error").addFilter(telling)
    client.renew = renew
    health.refusing = lambda: server.refusing or (DRAINED if admission.paused else "")
    link = asyncio.create_task(client.serve(), name="warden")
    link.add_done_callback(lambda _: server.stop("the warden is gone"))
    beside = [link, asyncio.create_task(health.beat(), name="beat")]
    beside.append(asyncio.create_task(_feed_watchdog(client), name="watchdog"))
    watching = leaks.watch(server.ready, config.sweep_s)
    beside.append(asyncio.create_task(watching, name="leaks"))
    if monitor is not None:
        watched = MonitorServer(make_monitor(health, metrics), config.http).serve(sockets=[monitor])
        beside.append(asyncio.create_task(watched, name="monitor"))
    try:
        await server.serve(sockets=listeners)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def _feed_watchdog(warden: WardenClient) -> None:
    """Tell the service manager, if it watches, through the warden's loop and ours, that we live."""
    silence = watchdog_s()
    with contextlib.suppress(Unavailable):  # then all of this ends
        while silence:
            await asyncio.sleep(silence / 3)
            await warden.ping()


class MonitorServer(uvicorn.Server):
    """The listener for Prometheus and health checks: up before the API's, and as long."""

    def __init__(self, application: Starlette, http: HttpConfig) -> None:
        super().__init__(_settings(application, lifespan="off"))
        self.server_state = Connections(http)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the other server's."""
        yield


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
        headers=[("server", SERVER)],
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


class ApiServer(uvicorn.Server):
    """uvicorn, telling the warden when it accepts connections, ending without a signal."""

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
        connections.default_headers = [(b"server", SERVER.encode())]  # until uvicorn's first tick
        self._warden = warden
        self._state = state
        self._draining: asyncio.Task[None] | None = None

    @property
    def refusing(self) -> str:
        """Why it takes no new work, "" if it does."""
        return "stopping" if self.should_exit else "" if self.started else "starting"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and say so."""
        await super().startup(sockets)
        with contextlib.suppress(Unavailable):  # then the link ends, and with it the server
            await self._warden.ready()
            self.ready.set()

    def stop(self, why: str) -> None:
        """End soon: running requests get their grace."""
        if not self.should_exit:
            log.event("api.ends", reason=why)
        self.should_exit = True
        self._state.sessions.suspend()

    def told_to_stop(self, signal_name: str) -> None:
        """SIGTERM or SIGINT: stop, or drain before, if that is what it means here. The second
        one does not wait."""
        stop = self._state.config.stop
        if stop.runs != "drain" or self._draining:
            self.stop(signal_name)
            return
        self._state.drain.begin(stop.grace_s)
        self._draining = asyncio.create_task(self._stop_when_drained(), name="stop")

    async def _stop_when_drained(self) -> None:
        await self._state.drain.drained.wait()
        await asyncio.sleep(DRAINED_S)
        self.stop("drained")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the server. uvicorn's own way raises the signal once more at
        the end, which would look like a crash to the warden."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        ending = (signal.SIGTERM, signal.SIGINT)
        for number in ending:
            loop.add_signal_handler(number, self.told_to_stop, number.name)
        try:
            yield
        finally:
            for number in ending:
                loop.remove_signal_handler(number)
