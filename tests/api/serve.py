"""The process of an api server over a fake warden, which runs until SIGTERM.

Its state is below a directory, so that a second server takes up the sessions of the first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import socket
import sys
from pathlib import Path

from sandboxd import log, runtimes
from sandboxd.api import app, server
from sandboxd.api.operation import health
from sandboxd.api.routes.table import ROUTES
from sandboxd.api.sessions import creation, periodic_work
from sandboxd.api.sessions.clock_watch import ClockWatch
from sandboxd.api.sessions.registry import SessionRegistry
from sandboxd.api.start import ApiStart
from sandboxd.config import toml_file
from sandboxd.config.settings import Config, RuntimeConfig
from sandboxd.runs import polling
from sandboxd.runtimes import catalogue

from . import moved_clock
from .fake_shim import KEEP
from .fake_warden import FakeWarden

# whatever this host has: the fake shim runs none of it
RUNTIMES = {
    "c": RuntimeConfig(
        tools=("sh",), build="out own build", exec="out own exec",
        environ={"OF_RUNTIME": "yes", "A": "runtime"},
    ),
    "python": RuntimeConfig(tools=("sh",)),
}  # fmt: skip

WAIT_S = 0.3
"""Seconds until a call of the polling API returns `continued` here."""


def _shorten_waits() -> None:
    """Let this process wait for less where the tests are about what follows, not about how long.

    The tests of the queue (tests/runs) have the real times.
    """
    object.__setattr__(polling.POLL, "wait_s", WAIT_S)
    object.__setattr__(polling.LIVE, "wait_s", 20.0)  # so that a live call shows to be one
    periodic_work.EVERY_S = 0.1
    periodic_work.REST_S = 0.0  # the clock of these tests is no timer
    health.BEAT_S = 0.1
    creation.PENDING_RETRY_S = creation.RETRY_S = 0.1


@functools.cache
def _catalogue() -> runtimes.Runtimes:
    """The runtimes of all servers: to look for their tools takes a third of a server's start."""
    return catalogue.load(Config(runtimes=RUNTIMES))


def _load(*_: object, **__: object) -> runtimes.Runtimes:
    """The same as sandboxd.runtimes.load here, as no test has a [rootfs] or [runtimes]."""
    return _catalogue()


def prepare() -> None:
    """Make the parts that the servers which are forked from this process have in common."""
    _catalogue()
    for route in ROUTES:
        app.starlette_route(route)  # Python remembers its regular expression


def _count_sweeps(base: Path) -> None:
    """Let tests wait until the periodic work has looked at all sessions: BASE/sweeps has one byte
    for each time that it has begun to."""
    look, sweeps = ClockWatch.look, base / "sweeps"

    async def counted(clock: ClockWatch, sessions: SessionRegistry) -> None:
        with contextlib.suppress(OSError), sweeps.open("ab") as file:  # a test's full disk
            file.write(b".")
        await look(clock, sessions)

    ClockWatch.look = counted  # type: ignore[method-assign,assignment]  # the same and more


def serve(base: Path, listeners: list[socket.socket], monitor: socket.socket) -> None:
    """Serve on `listeners`, with the configuration in BASE/config.json and the log in BASE/log."""
    with open(base / "log", "ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    moved_clock.obey(base)
    _shorten_waits()
    _count_sweeps(base)
    runtimes.load = _load
    log.setup("json", "info", "api")
    settings = base / "config.json"
    tables = json.loads(settings.read_text()) if settings.exists() else {}
    # Root is an admin in any case; another user who runs the tests is one by the group.
    admins = {"admin_groups": [str(os.getegid())], "listen": [f"unix:{base}/keyed?auth=keypair"]}
    loaded = toml_file.load(None, state_dir=str(base), **admins | tables)
    config = dataclasses.replace(loaded, console=KEEP, runtimes=RUNTIMES)
    warden = FakeWarden(base)
    server.run(ApiStart(config, warden.api, listeners, str(base / "sandboxd.sqlite"), monitor))
