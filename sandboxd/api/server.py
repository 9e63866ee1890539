"""The api process: the servers, the link to the warden, background tasks, and how all of it ends.

`run` is called in a process that has already given up root. It serves until SIGTERM, or until the
warden is gone. Then requests get a moment to end, and the sessions stay as they are for the next
daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette

from .. import runtimes
from ..config.listen_address import keyed_paths
from ..config.settings import Config
from ..errors import Unavailable
from ..host import descriptors
from ..runs.cursor import CursorFile
from ..store import keypairs
from ..store.database import Database
from ..systemd import watchdog_s
from ..threads import start_all
from . import app, freed_memory, reload
from .access.authentication import Authenticator
from .access.keys import Keys
from .admission.admission import Admission
from .admission.capacity import HostCapacity
from .admission.pauses import DRAINED
from .folders.registry import FolderRegistry
from .folders.tokens import Tokens
from .http.body_budget import BodyBudget
from .http.connections import Connections, complain_less
from .monitor import make as make_monitor
from .operation.drain import Drain
from .operation.health import Health
from .operation.leaks import Leaks
from .processes.warden_client import WardenClient
from .sessions import periodic_work
from .sessions.clock_watch import ClockWatch
from .sessions.deferred_writes import DeferredWrites
from .sessions.gauges import readings
from .sessions.registry import SessionRegistry
from .sessions.services import Services
from .start import ApiStart
from .state import AppState
from .telemetry.accounting import RunAccounting
from .telemetry.metrics import Metrics
from .uvicorn_servers import ApiServer, MonitorServer, quiet_uvicorn

_log = logging.getLogger(__name__)

THREADS = 16
"""For calls that would block the event loop: reading of spools, compression, and the like."""


def run(start: ApiStart) -> None:
    """Serve the API until SIGTERM, or until the warden closes its socket.

    Raises ConfigError when the database cannot be used.
    """
    descriptors.allow_most()  # two for each run of a session
    freed_memory.return_when_freed()
    quiet_uvicorn()
    store = Database(start.database)
    try:
        _warn_if_locked_out(start.config, start.listeners, store)
        asyncio.run(_serve(start, store))
    finally:
        store.close()


def _warn_if_locked_out(config: Config, listeners: list[socket.socket], store: Database) -> None:
    """Warn about a listener with keys and without any keypair: nobody could sign a request."""
    is_network = any(listener.family != socket.AF_UNIX for listener in listeners)
    needs_keys = (is_network and config.auth != "none") or keyed_paths(config.listen)
    if needs_keys and not keypairs.all_keypairs(store):
        command = f"sandboxd keypair create --state-dir {shlex.quote(config.state_dir)}"
        _log.warning("nobody can sign requests yet; make a keypair: %s", command)


async def _serve(start: ApiStart, store: Database) -> None:
    complain_less(asyncio.get_running_loop())
    workers = start_all(ThreadPoolExecutor(THREADS, "work"), THREADS)
    asyncio.get_running_loop().set_default_executor(workers)
    CursorFile.start_threads()
    config, metrics = start.config, Metrics()
    client = WardenClient(start.warden, metrics.warden_answered)
    state = _state(start, client, store, metrics)
    connections = Connections(config.http, state.bodies, keyed_paths(config.listen))
    application = app.make(state, _lifespan(state, store, lambda why: server.stop(why)))
    server = ApiServer(application, client, state, connections)
    client.renew = _reloader(state, connections)
    _expect_broken_start(server, client)
    state.health.refusing = lambda: server.refusing or (DRAINED if state.drain.on else "")
    link = asyncio.create_task(client.serve(), name="warden")
    link.add_done_callback(lambda _: server.stop("the warden is gone"))
    background = {
        "beat": state.health.beat(),
        "watchdog": _feed_watchdog(client),
        "leaks": state.leaks.watch(server.ready),
    }
    if start.monitor is not None:
        second = MonitorServer(make_monitor(state.health, metrics), config.http)
        background["monitor"] = second.serve(sockets=[start.monitor])
    tasks = [link, *_started(background)]
    try:
        await server.serve(sockets=start.listeners)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _started(work: dict[str, Coroutine[Any, Any, None]]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(coroutine, name=name) for name, coroutine in work.items()]


def _state(start: ApiStart, client: WardenClient, store: Database, metrics: Metrics) -> AppState:
    """The parts of the application."""
    config = start.config
    admission = Admission(config, HostCapacity(os.path.dirname(store.path), start.meter))
    accounting = RunAccounting(metrics, config.console)
    bodies = BodyBudget(config.http.bodies)
    services = Services(client, store, admission, accounting, DeferredWrites(store), bodies)
    sessions = SessionRegistry(services)
    metrics.reading(lambda: readings(sessions))
    return AppState(
        config=config,
        runtimes=runtimes.load(config),
        sessions=sessions,
        folders=FolderRegistry(services, sessions),
        tokens=Tokens(config.folders.token_s),
        authenticator=Authenticator(config, Keys(store)),
        metrics=metrics,
        health=Health(config, client, store, metrics),
        leaks=Leaks(client, store, metrics, sessions.unrecorded_ids, config.sweep_s),
        bodies=bodies,
        drain=Drain(admission),
        guarantees=start.guarantees,
    )


def _lifespan(
    state: AppState, store: Database, stop: Callable[[str], None]
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    """The recovery before the first request, the periodic work, and the end of the sessions."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        clock, sessions = ClockWatch(store), state.sessions
        await clock.begin()
        await state.folders.restore()
        await sessions.restore()
        await sessions.resume(state.runtimes)
        work = periodic_work.work(sessions, state.authenticator.keys, clock)
        task = asyncio.create_task(work, name="periodic work")
        task.add_done_callback(lambda _: stop("nothing ends idle sessions any more"))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await sessions.close()

    return lifespan


def _reloader(state: AppState, connections: Connections) -> Callable[[dict[str, Any]], None]:
    """The function that takes a new configuration, and puts it in force in a task."""
    reloads: set[asyncio.Task[None]] = set()  # the loop alone would not keep a task alive

    def renew(table: dict[str, Any]) -> None:
        task = asyncio.create_task(reload.apply(state, connections, table), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    return renew


def _expect_broken_start(server: ApiServer, client: WardenClient) -> None:
    """Keep uvicorn's errors out of the log for a start that the end of the warden has broken off;
    uvicorn takes that for a fault of the application."""

    def is_wanted(line: logging.LogRecord) -> bool:
        return not client.gone or server.started or line.levelno < logging.ERROR

    logging.getLogger("uvicorn.error").addFilter(is_wanted)


async def _feed_watchdog(warden: WardenClient) -> None:
    """Notify the service manager's watchdog, if there is one, through the loops of both halves."""
    silence = watchdog_s()
    with contextlib.suppress(Unavailable):  # then all of this ends
        while silence:
            await asyncio.sleep(silence / 3)
            await warden.ping()
