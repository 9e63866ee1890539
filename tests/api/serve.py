"""`python -m tests.api.serve SOCKET BASE`: the api over a fake warden, until SIGTERM.

It also listens on a port of the loopback, whose number it writes to BASE/port.

What it keeps is below BASE, so that a second one takes up the sessions of the first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import sys
import time
from pathlib import Path

from sandboxd import config_file, log
from sandboxd.api import server
from sandboxd.config import RuntimeConfig

from .fake_shim import KEEP
from .fake_warden import FakeWarden

# whatever this host has: the fake shim runs none of it
RUNTIMES = {
    "c": RuntimeConfig(
        tools=("sh",), clean="out own clean", build="out own build", exec="out own exec",
        environ={"OF_RUNTIME": "yes", "A": "runtime"},
    ),
    "python": RuntimeConfig(tools=("sh",)),
}  # fmt: skip


def main(path: str, base: str) -> None:
    """Serve on the Unix socket `path`."""
    _move_clock(Path(base))
    log.setup("json", "info", "api")
    warden = FakeWarden(Path(base))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    network = socket.create_server(("127.0.0.1", 0))
    Path(base, "port").write_text(str(network.getsockname()[1]))
    settings = Path(base, "config.json")
    tables = json.loads(settings.read_text()) if settings.exists() else {}
    plain = config_file.load(None, state_dir=base, **tables)
    monitor = socket.socket(socket.AF_UNIX)
    Path(f"{path}-monitor").unlink(missing_ok=True)
    monitor.bind(f"{path}-monitor")
    monitor.listen(8)
    ours = dataclasses.replace(plain, console=KEEP, runtimes=RUNTIMES)
    server.run(ours, warden.api, [listener, network], f"{base}/sandboxd.sqlite", monitor)


def _move_clock(base: Path) -> None:
    """Seconds that have passed besides those that do are in the file BASE/clock; those by which
    the time of day was set, in BASE/set. Both may change."""
    real, running = time.time, time.clock_gettime

    def read(name: str) -> float:
        with contextlib.suppress(OSError, ValueError):
            return float((base / name).read_text())
        return 0.0

    time.time = lambda: real() + read("clock") + read("set")
    time.clock_gettime = lambda clock: running(clock) + read("clock")


if __name__ == "__main__":
    main(*sys.argv[1:])
