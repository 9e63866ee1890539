"""The check for leaks: the warden's report of a sweep, compared with the rows of the database.

The warden compares the leases with the kernel (warden/leaks/sweep.py). Here its report is compared
with the rows. A slot that is leased for a session without a row is released, unless the session is
an ephemeral one of this daemon, or is created or ends just now. Two sweeps have to see a thing
without a row, since a session can begin and end during one. A folder without a row is reported and
stays: its row may have been lost, and its files may belong to an owner.

`watch` has the warden sweep at the start and then every sweep_s; GET /admin/leaks does so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import Metric

from ... import log
from ...errors import SandboxdError
from ...store import folders as folder_table
from ...store import sessions as session_table
from ...store.database import Database
from ..processes.warden_client import WardenClient
from ..telemetry.metrics import Metrics, gauge, gauges

RECENT_MAX = 100
"""Leaks of earlier sweeps that a report repeats."""

KINDS = (
    "process", "directory", "cgroup", "loop", "shm", "sem", "msg", "temporary", "slot",
    "session", "folder",
)  # fmt: skip

OLD_KEY = "strays"
"""The name of `leaks` in reports of versions before 0.1.0; clients may read it."""

Leak = dict[str, Any]
"""kind, identity, age_s, done; one of the api's own also has slot and session."""


class Leaks:
    """The reports of sweeps. `recent` has the leaks of the last ones, newest first."""

    def __init__(
        self,
        warden: WardenClient,
        database: Database,
        metrics: Metrics,
        unrecorded: Callable[[], set[str]],
        every_s: float,
    ) -> None:
        """`unrecorded` gives the UUIDs of the sessions without a row at this moment; `every_s` is
        the time from one sweep to the next."""
        self._unrecorded = unrecorded
        self.recent: deque[Leak] = deque(maxlen=RECENT_MAX)
        self._warden = warden
        self._database = database
        self._metrics = metrics
        self._by_kind: Counter[str] = Counter()
        self._seconds = self._at = 0.0
        self._every_s = every_s
        self._renewed = asyncio.Event()
        metrics.reading(self._readings)

    def renew(self, every_s: float) -> None:
        """Change the time from one sweep to the next, also of the pause of this moment."""
        self._every_s = every_s
        self._renewed.set()

    async def watch(self, ready: asyncio.Event) -> None:
        """Check again and again, once the sessions of the daemon before have been restored."""
        await ready.wait()
        while True:
            try:
                await self.check()
            except (SandboxdError, sqlite3.Error) as error:  # the next one may succeed
                log.event("sweep.failed", logging.WARNING, error=str(error))
            await self._pause()

    async def _pause(self) -> None:
        began = time.monotonic()
        while (left := began + self._every_s - time.monotonic()) > 0:
            self._renewed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._renewed.wait()

    async def check(self) -> dict[str, Any]:
        """The report of a sweep that is done now. Raises SandboxdError."""
        report, own = await self._look()
        if own:  # a session that began and ended during the sweep is in no second one
            first, earlier = report["leaks"], {leak["identity"] for leak in own}
            report, own = await self._look()
            own = [leak for leak in own if leak["identity"] in earlier]
            report["leaks"] = first + [one for one in report["leaks"] if one not in first]
        for leak in own:
            cause = None
            if leak["kind"] == "slot":
                leak["done"], cause = await self._release(leak)
            fields = {key: leak.get(key) for key in ("kind", "identity", "age_s", "done")}
            log.event("leak", logging.WARNING, **fields, error=cause)
        every = report.pop("leaks") + [_public(leak) for leak in own]
        self._count(every, report)
        return {"leaks": every, OLD_KEY: every, "recent": list(self.recent), **report}

    async def _look(self) -> tuple[dict[str, Any], list[Leak]]:
        """The report of a sweep, and what has no row."""
        # A session may be created or may end during the sweep: either row counts.
        before = await self._sessions_and_folders()
        report = await self._warden.sweep()
        after = await self._sessions_and_folders()
        return report, list(leaks(report, before[0] | after[0], before[1] | after[1]))

    async def _sessions_and_folders(self) -> tuple[set[str], set[str]]:
        """The UUIDs of all sessions that are not over, and of all folders."""
        unrecorded = self._unrecorded()  # first of all: one that gets a row meanwhile counts
        sessions, folders = await self._database.run(_rows)
        return sessions | unrecorded, folders

    async def _release(self, leak: Leak) -> tuple[str, str | None]:
        """The action on a leaked slot; the cause if it is still leased."""
        try:
            await self._warden.release(leak["slot"], leak["session"])
        except SandboxdError as error:
            return f"left: {error.public}", str(error)
        return "released", None

    def _count(self, every: list[Leak], report: dict[str, Any]) -> None:
        self._by_kind = Counter(leak["kind"] for leak in every)
        self._seconds, self._at = float(report["seconds"]), time.monotonic()
        for leak in every:
            done = leak["done"].partition(":")[0].partition(" ")[0].partition(",")[0]
            self._metrics.leaks.labels(leak["kind"], done).inc()
            self.recent.appendleft({"at": round(time.time(), 3)} | leak)

    def _readings(self) -> Iterator[Metric]:
        numbers = {kind: self._by_kind[kind] for kind in KINDS}
        yield gauges("leaks", "Leaks that the last sweep has found", "kind", numbers)
        yield gauge("sweep_seconds", "Duration of the last sweep", self._seconds)
        if self._at:
            yield gauge("sweep_age_seconds", "Since the last sweep", time.monotonic() - self._at)


def leaks(report: dict[str, Any], sessions: set[str], folders: set[str]) -> Iterator[Leak]:
    """The slots, directories and folders of the warden without a row. No I/O."""
    for slot in report["slots"]:
        if slot["session"] not in sessions:
            identity = f"slot {slot['slot']} session {slot['session']}"
            yield _leak("slot", identity) | {"slot": slot["slot"], "session": slot["session"]}
    leased = {slot["slot"] for slot in report["slots"]}
    for directory in report["kept"]:
        if directory["session"] not in sessions and directory["number"] not in leased:
            identity = f"slots/{directory['number']} session {directory['session']}"
            done = "left: the next start removes it"
            yield _leak("session", identity, done, directory["age_s"])
    for folder in report["folders"]:
        if folder not in folders:
            yield _leak("folder", folder, "left: its files may be somebody's")


def _leak(kind: str, identity: str, done: str = "", age_s: float | None = None) -> Leak:
    return {"kind": kind, "identity": identity, "age_s": age_s, "done": done}


def _public(leak: Leak) -> Leak:
    return _leak(leak["kind"], leak["identity"], leak["done"], leak["age_s"])


def _rows(database: Database) -> tuple[set[str], set[str]]:
    """The UUIDs of all sessions that are not over, and of all folders."""
    return session_table.ids(database), folder_table.ids(database)
