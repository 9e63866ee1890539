"""The health of the daemon: is it alive, and is it ready for new work?

    alive   the event loop answers the request, and the warden answers a ping
    ready   alive, the database takes a write, the disk has room, the last fork of the warden did
            not fail, and the daemon does not stop

A finding holds for FRESH_S, and concurrent requests share one look: these requests are unsigned on
the public listener, so they must cost next to nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from prometheus_client.core import Metric

from ... import log
from ...config.settings import Config
from ...errors import SandboxdError
from ...host.free_space import INODES_FLOOR, FreeSpace
from ...store.database import Database
from ..processes.warden_client import WardenClient
from ..telemetry.metrics import Metrics, gauge, network_readings

FRESH_S = 1.0
ANSWER_S = 2.0
"""Seconds that the warden and the database have to answer."""

BEAT_S = 5.0
"""Seconds between two measurements of the event loop's lag. Each wakes up an idle daemon."""

Problems = dict[str, str]
"""Texts for the operator by subject: warden, database, disk, tasks or daemon."""


class Health:
    """The health of one daemon.

    refusing  says why the daemon takes no new work now, "" if it does
    warden    the vitals of the warden, from the last ping (warden/vitals.py)
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
        self._ready = _Fresh(self._check_storage)
        self._probe: asyncio.Task[str] | None = None
        metrics.reading(self._readings)

    async def alive(self) -> Problems:
        """The problems because of which the daemon can do nothing at all."""
        return await self._alive.get()

    async def ready(self) -> Problems:
        """The problems because of which the daemon takes no new work."""
        problems = await self.alive() | await self._ready.get()
        if (code := self._fork_errno()) and "warden" not in problems:
            problems["tasks"] = (
                f"no process can be started: {os.strerror(code)}; "
                "end processes, or raise kernel.pid_max, kernel.threads-max or TasksMax="
            )
        if refusing := self.refusing():
            problems["daemon"] = refusing
        return problems

    def _fork_errno(self) -> int:
        """The answer of the kernel to the warden's last fork; 0: it succeeded."""
        return int(self.warden.get("fork_errno", 0))

    async def _ping(self) -> Problems:
        try:
            async with asyncio.timeout(ANSWER_S):
                self.warden = await self._client.ping()
        except TimeoutError:
            return {"warden": f"no answer within {ANSWER_S:g} s"}
        except SandboxdError as error:
            log.event("health", logging.WARNING, about="warden", error=str(error))
            return {"warden": error.public}
        return {}

    async def _check_storage(self) -> Problems:
        """The problems of database and disk."""
        problems = await self._check_database()
        if (room := _room(self.config.state_dir)) is not None:
            if room.bytes < self.config.disk_floor:
                problems["disk"] = f"{room.bytes} bytes are free, fewer than disk_floor"
            elif not room.holds(0, INODES_FLOOR):
                problems["disk"] = f"{room.inodes} inodes are free, fewer than {INODES_FLOOR}"
        return problems

    async def _check_database(self) -> Problems:
        if self._probe is None:  # a write that hangs is not begun a second time
            self._probe = asyncio.create_task(_write(self._database), name="probe")
        done, _ = await asyncio.wait({self._probe}, timeout=ANSWER_S)
        if not done:
            return {"database": f"no answer within {ANSWER_S:g} s"}
        problem, self._probe = self._probe.result(), None
        return {"database": problem} if problem else {}

    async def beat(self) -> None:
        """Measure how late the event loop is, for ever."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(BEAT_S)
            self._metrics.loop_lag.observe(max(0.0, time.monotonic() - before - BEAT_S))

    def _readings(self) -> Iterator[Metric]:
        problems = (
            self._alive.problems or self._ready.problems or self._fork_errno() or self.refusing()
        )
        yield gauge("ready", "1 if new work is taken", not problems)
        if (room := _room(self.config.state_dir)) is not None:
            yield gauge("disk_free_bytes", "Free where the state is", room.bytes)
            if room.inodes is not None:
                yield gauge("disk_free_inodes", "Free where the state is", room.inodes)
        yield gauge("disk_floor_bytes", "Below this much it is not ready", self.config.disk_floor)
        for name, what in _WARDEN.items():
            if name in self.warden:
                yield gauge(f"warden_{name}", what, float(self.warden[name]))
        yield from network_readings(self.warden.get("network"))


class _Fresh:
    """The problems that `check` finds; it is called again when they are older than FRESH_S."""

    def __init__(self, check: Callable[[], Awaitable[Problems]]) -> None:
        self.problems: Problems = {}
        self._check = check
        self._at = -FRESH_S
        self._checking = asyncio.Lock()

    async def get(self) -> Problems:
        """A copy of the problems."""
        async with self._checking:
            if time.monotonic() - self._at >= FRESH_S:
                self.problems = await self._check()
                self._at = time.monotonic()
            return dict(self.problems)


_WARDEN = {
    "resident_memory_bytes": "Memory of the warden",
    "open_fds": "Descriptors of the warden",
    "children": "Shims and file helpers of the warden",
    "releasing": "Slots that are being emptied",
    "uptime_seconds": "Since the warden has started",
    "fork_errno": "Answer of the kernel to the last fork of the warden; 0 is right",
    "log_lines_dropped": "Lines of the warden's log that were dropped",
}


async def _write(database: Database) -> str:
    """Write to the database; the problem if that fails."""
    try:
        await database.run(Database.probe)
    except (SandboxdError, sqlite3.Error) as error:
        log.event("health", logging.WARNING, about="database", error=str(error))
        return error.public if isinstance(error, SandboxdError) else "the state cannot be written"
    return ""


def _room(path: str) -> FreeSpace | None:
    """The free space at `path`; None if the file system does not say."""
    try:
        return FreeSpace.at(path)
    except OSError:
        return None
