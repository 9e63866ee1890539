"""The private daemons of a benchmark: configuration, start, end, and CPU time.

A run can meet these states. A daemon with its usual settings keeps a session warm after a run. A
daemon without warm sessions serves each run from its prepared shims, or has its spawner make one
where all of them are taken. A daemon without prepared shims has no spawner. Settings that this
version does not have are left out; then these states are one.

These daemons are started as a service is: the daemon of `sandboxd run --private` prepares nothing.
Their directory has the form of a private one. So if the benchmark is killed, the next private
daemon or benchmark removes all that is left (warden/private_cleanup.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sandboxd.cli.connection.private_daemon import PREFIX, STOP_S
from sandboxd.config.settings import Config
from sandboxd.jail import syscalls
from sandboxd.warden import private_cleanup

from .connection import Connection
from .cpu_group import CpuGroup

WARM, FRESH, EMPTY, NO_POOL = "warm", "fresh", "pool empty", "no pool"
STATES = (WARM, FRESH, EMPTY)
"""The states of latencies. `groups/latency.py` takes the one shim of EMPTY away."""

SETTINGS: dict[str, dict[str, dict[str, float]]] = {
    WARM: {},
    FRESH: {"runs": {"warm_s": 0}},
    EMPTY: {"runs": {"warm_s": 0, "prepared": 1}},
    NO_POOL: {"runs": {"warm_s": 0, "prepared": 0}},
}
"""State -> the table of the configuration -> key and value that differ from the defaults."""

_UIDS = 900_000_000
"""The first uid of slots of benchmarks: far from those of services and of private daemons."""
_UIDS_OF_ONE, _UIDS_OF_BENCH = 2_000, 10_000
_ROOT = Path(__file__).parent.parent.parent


def settings_of(state: str) -> dict[str, dict[str, float]]:
    """The settings of this state that this version of sandboxd has."""
    return {
        table: known
        for table, values in SETTINGS[state].items()
        if (known := {key: value for key, value in values.items() if has_key(table, key)})
    }


def has_key(table: str, key: str) -> bool:
    """The configuration has this key."""
    section = getattr(Config(), table, None)
    return dataclasses.is_dataclass(section) and hasattr(section, key)


def default(table: str, key: str) -> float:
    """The default of a number of the configuration; 0 where this version does not have it."""
    return float(getattr(getattr(Config(), table), key)) if has_key(table, key) else 0.0


class Daemon:
    """A daemon that runs.

    folder  its directory, with socket, state and log
    unix    its addresses for Connection
    tcp
    group   its CPU time and its processes
    """

    def __init__(self, folder: str, tcp: str, group: CpuGroup) -> None:
        self.folder = folder
        self.unix = f"unix:{folder}/api.sock"
        self.tcp = tcp
        self.group = group

    def connect(self, tcp: bool = False) -> Connection:
        """A new connection."""
        return Connection(self.tcp if tcp else self.unix)


@contextlib.contextmanager
def daemon(number: int, state: str, slots: int) -> Iterator[Daemon]:
    """Start the daemon `number` of this benchmark. Raises RuntimeError when it does not start."""
    private_cleanup.clear_old(tempfile.gettempdir(), PREFIX)
    folder = tempfile.mkdtemp(prefix=PREFIX)
    os.chmod(folder, 0o711)  # the unprivileged api reaches its state in there
    Path(folder, "config.toml").write_text(_configuration(folder, number, state, slots))
    group = CpuGroup(str(number))
    process: subprocess.Popen[str] | None = None
    try:
        process = _start(folder, group)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("sandboxd: ready on "):
            log = Path(folder, "log").read_text(errors="replace")
            raise RuntimeError(f"the daemon did not start:\n{log}")
        tcp = next(word for word in line.replace(",", " ").split() if word.startswith("127."))
        yield Daemon(folder, tcp, group)
    finally:
        if process:
            _stop(process)
        private_cleanup.clear(folder)
        group.remove()
        shutil.rmtree(folder, ignore_errors=True)


def _configuration(folder: str, number: int, state: str, slots: int) -> str:
    """The text of the configuration. The bounds of admission do not hold a benchmark back."""
    first_uid = _UIDS + os.getpid() % 1000 * _UIDS_OF_BENCH + number * _UIDS_OF_ONE
    tables: dict[str, dict[str, object]] = {
        "": {
            "listen": ["127.0.0.1:0", f"unix:{folder}/api.sock"],
            "state_dir": f"{folder}/state",
            "auth": "none",
            "metrics": "",
            "log_level": "warning",
        },
        "slots": {"first_uid": first_uid, "count": slots},
        "admission": {"disk": 10000.0},
        "admission.owner": {"sessions": slots, "disk": 10000.0},
    }
    tables |= {name: dict(values) for name, values in settings_of(state).items()}
    lines = []
    for name, values in tables.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _start(folder: str, group: CpuGroup) -> subprocess.Popen[str]:
    def prepare() -> None:
        group.join()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)

    command = [sys.executable, "-P", "-X", "utf8", "-m", "sandboxd", "serve"]
    command += ["--config", f"{folder}/config.toml"]
    with open(f"{folder}/log", "w", encoding="utf-8") as log:
        return subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the benchmark only, which then ends the daemon
            preexec_fn=prepare,
        )


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
