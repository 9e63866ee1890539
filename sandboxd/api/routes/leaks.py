"""The ledger of what is leased, and what was found that nobody has: GET /admin/leaks.

The warden compares what it has leased with the kernel (warden/leaks/sweep.py); here its report is
compared with the rows. A slot that is leased for a session without a row is released. A folder
without a row is named and left alone: its files may be somebody's whose row was lost.

`watch` has a sweep made at the start and then every sweep_s; who asks has one made now.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import Metric
from starlette.requests import Request
from starlette.responses import Response

from ... import log
from ...errors import Forbidden, SandboxdError
from ...store import folders as folder_table
from ...store import sessions as session_table
from ...store.database import Database
from ..access.ownership import caller
from ..http.responses import JsonResponse
from ..sessions.warden_client import WardenClient
from ..telemetry.metrics import Metrics, gauge, gauges

RECENT_MAX = 100
"""Strays of earlier sweeps that are still told of."""

KINDS = (
    "process", "directory", "cgroup", "loop", "shm", "sem", "msg", "temporary", "slot", "session",
    "folder",
)  # fmt: skip

Stray = dict[str, Any]


class Leaks:
    """The reports of sweeps. `recent` has the strays of the last ones, newest first."""

    def __init__(self, warden: WardenClient, database: Database, metrics: Metrics) -> None:
        self.recent: deque[Stray] = deque(maxlen=RECENT_MAX)
        self._warden = warden
        self._database = database
        self._metrics = metrics
        self._found: Counter[str] = Counter()
        self._seconds = self._at = 0.0
        metrics.reading(self._readings)

    async def watch(self, ready: asyncio.Event, every_s: float) -> None:
        """Have sweeps made, for ever, once all sessions of before the start have been taken up."""
        await ready.wait()
        while True:
            try:
                await self.look()
            except (SandboxdError, sqlite3.Error) as error:  # the next one may succeed
                log.event("sweep.failed", logging.WARNING, error=str(error))
            await asyncio.sleep(every_s)

    async def look(self) -> dict[str, Any]:
        """Have one made; its report. Raises SandboxdError."""
        before = await self._database.run(_rows)
        report = await self._warden.sweep()
        after = await self._database.run(_rows)
        sessions, folders = before[0] | after[0], before[1] | after[1]
        found = list(strays(report, sessions, folders))
        for stray in found:
            if stray["kind"] == "slot":
                stray["done"] = await self._release(stray)
            told = {key: stray.get(key) for key in ("kind", "identity", "age_s", "done")}
            log.event("stray", logging.WARNING, **told)
        found = report.pop("strays") + [_told(stray) for stray in found]
        self._count(found, report)
        return {"strays": found, "recent": list(self.recent), **report}

    async def _release(self, stray: Stray) -> str:
        try:
            await self._warden.release(stray["slot"], stray["session"])
        except SandboxdError as error:
            return f"left: {error}"
        return "released"

    def _count(self, found: list[Stray], report: dict[str, Any]) -> None:
        self._found = Counter(stray["kind"] for stray in found)
        self._seconds, self._at = float(report["seconds"]), time.monotonic()
        for stray in found:
            done = stray["done"].partition(":")[0].partition(" ")[0].partition(",")[0]
            self._metrics.leaks.labels(stray["kind"], done).inc()
            self.recent.appendleft({"at": round(time.time(), 3)} | stray)

    def _readings(self) -> Iterator[Metric]:
        found = {kind: self._found[kind] for kind in KINDS}
        yield gauges("leaks", "What the last sweep has found that nobody has", "kind", found)
        yield gauge("sweep_seconds", "What the last sweep has taken", self._seconds)
        if self._at:
            yield gauge("sweep_age_seconds", "Since the last sweep", time.monotonic() - self._at)


def strays(report: dict[str, Any], sessions: set[str], folders: set[str]) -> Iterator[Stray]:
    """What the warden has for sessions and folders that there are no rows of. No I/O."""
    for slot in report["slots"]:
        if slot["session"] not in sessions:
            what = f"slot {slot['slot']} session {slot['session']}"
            yield _stray("slot", what) | {"slot": slot["slot"], "session": slot["session"]}
    leased = {slot["slot"] for slot in report["slots"]}
    for kept in report["kept"]:
        if kept["session"] not in sessions and kept["number"] not in leased:
            what = f"slots/{kept['number']} session {kept['session']}"
            yield _stray("session", what, "left: the next start removes it", kept["age_s"])
    for folder in report["folders"]:
        if folder not in folders:
            yield _stray("folder", folder, "left: its files may be somebody's")


def _stray(kind: str, identity: str, done: str = "", age_s: float | None = None) -> Stray:
    return {"kind": kind, "identity": identity, "age_s": age_s, "done": done}


def _told(stray: Stray) -> Stray:
    return _stray(stray["kind"], stray["identity"], stray["done"], stray["age_s"])


async def leaks(request: Request) -> Response:
    """GET /admin/leaks: a sweep now, and what each slot has. Raises Forbidden."""
    if not caller(request).is_admin:
        raise Forbidden("only admins can look at the ledger")
    return JsonResponse(await request.app.state.sandboxd.leaks.look())


def _rows(database: Database) -> tuple[set[str], set[str]]:
    """The UUIDs of all sessions that are not over, and of all folders."""
    return session_table.ids(database), folder_table.ids(database)
