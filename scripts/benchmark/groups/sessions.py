"""The time of a creation while many sessions are at rest, and the memory of a session.

At the last step many foreign processes sleep on the host, too. Each is a child of a shell that
reads from a pipe; they end when the pipe is closed, also if the benchmark is killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from sandboxd.host.tasks import TaskMeter

from ..bench import Bench, timed_ms
from ..connection import Connection
from ..cpu_group import memory
from ..daemon import WARM, Daemon
from ..rows import Curve, Measured, Row, goal_row

CREATIONS = "Median milliseconds of a creation"
"""The name of the chart."""

_SHELLS = 8
_PROCESS_BYTES = 512 << 10
"""More memory than a sleeping child of a shell takes."""
_SCRIPT = 'exec 3<&0; i=0; while [ $i -lt "$1" ]; do (read x <&3) & i=$((i+1)); done; echo; wait'


def measure(bench: Bench) -> Measured:
    """The rows of each step."""
    most = max(bench.amount.sessions)
    with bench.new_daemon(WARM, most + 8) as daemon, daemon.connect() as connection:
        connection.delete(connection.create())
        empty = list(_creations(bench, connection, "an empty host"))
        before = _Room.of(daemon)
        sessions: list[str] = []
        steps: dict[int, tuple[float, ...]] = {}
        for count in bench.amount.sessions:
            while len(sessions) < count:
                bench.progress.show(f"sessions: {len(sessions)} of {most}")
                sessions.append(connection.create())
            steps[count] = _creations(bench, connection, f"{count} sessions")
        after = _Room.of(daemon)
        bench.progress.show(f"sessions: {bench.amount.processes} foreign processes")
        with foreign_processes(bench.amount.processes) as processes:
            busy = _creations(bench, connection, f"and {processes} processes")
        for number, session in enumerate(sessions):
            bench.progress.show(f"sessions: {most - number} to delete")
            connection.delete(session)
        empty += _creations(bench, connection, "an empty host again")
    return Measured(
        rows_of(tuple(empty), steps, busy, processes),
        [Curve(CREATIONS, "create", tuple((n, median(times)) for n, times in steps.items()))],
        {**after.sizing(before, most), f"create, {most} sessions": f"{median(steps[most]):.1f} ms"},
    )


def rows_of(
    empty: tuple[float, ...],
    steps: dict[int, tuple[float, ...]],
    busy: tuple[float, ...],
    processes: int,
) -> list[Row]:
    """The rows of these times of creations; `busy` is beside all sessions and foreign processes."""
    base = median(empty)
    rows = [Row("create-0", "create, empty host", empty)]
    for count, times in steps.items():
        text = f"create, {count} sessions at rest"
        rows.append(Row(f"create-{count}", text, times, median(times) / base, "x"))
    text = f"create, {max(steps)} sessions, {processes} processes"
    note = "" if processes else "no room for foreign processes on this host"
    return [*rows, goal_row("create", median(busy) / base, busy, note, text)]


def _creations(bench: Bench, connection: Connection, text: str) -> tuple[float, ...]:
    """Milliseconds of some creations; each session is deleted, which does not count."""
    bench.progress.show(f"sessions: create, {text}")
    times = []
    sessions: list[str] = []
    for _ in range(bench.amount.creates):
        times.append(timed_ms(lambda: sessions.append(connection.create())))
        connection.delete(sessions.pop())
    return tuple(times)


@contextlib.contextmanager
def foreign_processes(count: int) -> Iterator[int]:
    """Let `count` processes sleep, or none where the host has no room for them; their number."""
    if not has_room(count):
        yield 0
        return
    shells = [_shell(count // _SHELLS) for _ in range(_SHELLS)]
    try:
        for shell in shells:
            assert shell.stdout is not None
            shell.stdout.readline()
        yield count // _SHELLS * _SHELLS
    finally:
        for shell in shells:
            shell.communicate()  # closes the pipe from which the children read


def _shell(count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "sh", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def has_room(count: int) -> bool:
    """The host can have twice as many further tasks, and has memory for them."""
    meter = TaskMeter.of_daemon()
    free = meter.measure().free
    meter.close()
    return free > 2 * count and _available() > 2 * count * _PROCESS_BYTES


def _available() -> int:
    """Bytes of memory that programs can still have."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


class _Room:
    """The memory and the disk that a daemon and its sessions take.

    daemon  bytes of memory of its processes
    host    bytes of memory that are left on the host
    disk    bytes of the state directory
    """

    def __init__(self, daemon: int, host: int, disk: int) -> None:
        self.daemon, self.host, self.disk = daemon, host, disk

    @classmethod
    def of(cls, daemon: Daemon) -> _Room:
        """The room at this moment."""
        paths = (
            f"{directory}/{name}"
            for directory, _, names in os.walk(f"{daemon.folder}/state")
            for name in names
        )
        disk = sum(os.lstat(path).st_blocks * 512 for path in paths)
        return cls(memory(daemon.group.pids()), _available(), disk)

    def sizing(self, before: _Room, sessions: int) -> dict[str, str]:
        """The figures of one of `sessions` sessions."""
        kinds = {
            "memory of the daemon, a session at rest": self.daemon - before.daemon,
            "memory of the host, a session at rest": before.host - self.host,
            "disk, a session without files": self.disk - before.disk,
        }
        sizes = {text: f"{max(0, size) / sessions / 1024:.0f} KiB" for text, size in kinds.items()}
        return {"memory of the daemon without sessions": f"{before.daemon >> 20} MiB", **sizes}
