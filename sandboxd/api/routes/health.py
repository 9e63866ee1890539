"""Whether the daemon is alive, and whether it can take work; also the listener for both.

    alive   the event loop answers this, and the warden answers a ping
    ready   alive, the database takes a write, the disk has room, nothing is being ended

What is found holds for FRESH_S, and several who ask at once ask once: on the public listener
nobody signs these requests, so they must cost next to nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...config import Config
from ...errors import Forbidden, SandboxdError
from ...free_space import FreeSpace
from ...store.database import Database
from ..access.csrf import is_loopback, refuse_pages
from ..http.responses import JsonResponse
from ..sessions.warden_client import WardenClient
from ..telemetry.metrics import Metrics, gauge

FRESH_S = 1.0
ANSWER_S = 2.0
"""Seconds that the warden and the database have to answer."""

INODES_FLOOR = 64
"""Inodes free in state_dir below which it is not ready: a session takes five, each run six."""

BEAT_S = 0.5
"""How often the loop's lag is measured."""


class Health:
    """What is known of the daemon's health.

    refusing  says why new work is not taken just now, "" if it is
    warden    what the warden has last said of itself: rss, descriptors, processes, uptime_s
    """

    def __init__(
        self, config: Config, warden: WardenClient, database: Database, metrics: Metrics
    ) -> None:
        self.refusing: Callable[[], str] = lambda: "starting"
        self.warden: dict[str, Any] = {}
        self.config = config
        self._client = warden
        self._database = database
        self._metrics = metrics
        self._alive = _Fresh(self._ping)
        self._ready = _Fresh(self._look)
        self._probe: asyncio.Task[str] | None = None
        metrics.reading(self._readings)

    async def alive(self) -> dict[str, str]:
        """What keeps the daemon from doing anything at all; nothing, if it can."""
        return await self._alive.get()

    async def ready(self) -> dict[str, str]:
        """What keeps it from taking new work, by what it is about: warden, database, disk, or
        daemon for what is intended."""
        wrong = await self.alive() | await self._ready.get()
        if refusing := self.refusing():
            wrong["daemon"] = refusing
        return wrong

    async def _ping(self) -> dict[str, str]:
        try:
            async with asyncio.timeout(ANSWER_S):
                self.warden = await self._client.ping()
        except TimeoutError:
            return {"warden": f"no answer within {ANSWER_S:g} s"}
        except SandboxdError as error:
            return {"warden": str(error)}
        return {}

    async def _look(self) -> dict[str, str]:
        """What disk and database have to say. A write that hangs is not begun a second time."""
        wrong = {}
        if self._probe is None:
            self._probe = asyncio.create_task(self._database.run(_write), name="probe")
        done, _ = await asyncio.wait({self._probe}, timeout=ANSWER_S)
        if not done:
            wrong["database"] = f"no answer within {ANSWER_S:g} s"
        else:
            if found := self._probe.result():
                wrong["database"] = found
            self._probe = None
        if (room := _room(self.config.state_dir)) is not None:
            if room.bytes < self.config.disk_floor:
                wrong["disk"] = f"{room.bytes} bytes are free, fewer than disk_floor"
            elif not room.holds(0, INODES_FLOOR):
                wrong["disk"] = f"{room.inodes} inodes are free, fewer than {INODES_FLOOR}"
        return wrong

    async def beat(self) -> None:
        """Measure how late the event loop is, for ever."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(BEAT_S)
            self._metrics.loop_lag.observe(max(0.0, time.monotonic() - before - BEAT_S))

    def _readings(self) -> Iterator[Metric]:
        wrong = self._alive.found or self._ready.found or self.refusing()
        yield gauge("ready", "1 if new work is taken", not wrong)
        if (room := _room(self.config.state_dir)) is not None:
            yield gauge("disk_free_bytes", "Free where the state is", room.bytes)
            if room.inodes is not None:
                yield gauge("disk_free_inodes", "Free where the state is", room.inodes)
        yield gauge("disk_floor_bytes", "Below this much it is not ready", self.config.disk_floor)
        for name, what in _WARDEN.items():
            if name in self.warden:
                yield gauge(f"warden_{name}", what, float(self.warden[name]))


class _Fresh:
    """What `look` finds, looked up again when it is older than FRESH_S."""

    def __init__(self, look: Callable[[], Awaitable[dict[str, str]]]) -> None:
        self.found: dict[str, str] = {}
        self._look = look
        self._at = -FRESH_S
        self._looking = asyncio.Lock()

    async def get(self) -> dict[str, str]:
        """A copy of it."""
        async with self._looking:
            if time.monotonic() - self._at >= FRESH_S:
                self.found = await self._look()
                self._at = time.monotonic()
            return dict(self.found)


_WARDEN = {
    "resident_memory_bytes": "Memory of the warden",
    "open_fds": "Descriptors of the warden",
    "children": "Shims and file helpers of the warden",
    "releasing": "Slots that are being emptied",
    "uptime_seconds": "Since the warden has started",
    "log_lines_dropped": "Lines of the warden's log that nobody took",
}


def _write(database: Database) -> str:
    """Write to the database; why that cannot be."""
    try:
        database.probe()
    except (SandboxdError, sqlite3.Error) as error:
        return str(error)
    return ""


def _room(path: str) -> FreeSpace | None:
    """The room that there is; None when that cannot be said."""
    try:
        return FreeSpace.at(path)
    except OSError:
        return None


def monitor(health: Health, metrics: Metrics) -> Starlette:
    """The application of the listener for Prometheus and health checks. On the loopback it is for
    programs of this machine, not for web pages that are open on it."""
    local = is_loopback(health.config.metrics)

    class Guard:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                if local and scope["type"] == "http":
                    refuse_pages(scope["headers"])
            except Forbidden as error:
                await PlainTextResponse(f"{error}\n", 403)(scope, receive, send)
            else:
                await self._app(scope, receive, send)

    async def text(_: Request) -> Response:
        await health.ready()
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def alive(_: Request) -> Response:
        return _told(await health.alive(), detail=True)

    async def ready(_: Request) -> Response:
        return _told(await health.ready(), detail=True)

    return Starlette(
        routes=[Route("/metrics", text), Route("/healthz", alive), Route("/readyz", ready)],
        middleware=[Middleware(Guard)],
    )


async def healthz(request: Request) -> Response:
    """GET /healthz on the API's listeners: alive or not, and no more."""
    return _told(await request.app.state.sandboxd.health.alive())


async def readyz(request: Request) -> Response:
    """GET /readyz on the API's listeners: ready or not, and no more."""
    return _told(await request.app.state.sandboxd.health.ready())


def _told(wrong: dict[str, str], detail: bool = False) -> Response:
    body: dict[str, Any] = {"status": "unavailable" if wrong else "ok"}
    if detail and wrong:
        body["wrong"] = wrong
    return JsonResponse(body, 503 if wrong else 200)
