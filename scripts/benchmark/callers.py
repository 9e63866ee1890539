"""Callers that act at the same time, each a process of its own.

Threads of one Python would wait for each other. A caller prepares itself, waits for the signal to
begin, acts until the time is over, and reports the time of each act. An act that
begins in the first part of the time, WARM_UP, does not count: the preparation of many callers, and
the end of those before, still have the daemon at work then, and a session that was created first
may be at rest again.
"""

from __future__ import annotations

import array
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sandboxd.jail import syscalls

from .sandboxes import Act

WARM_UP = 0.25
"""The part of the time that counts by which callers act before it."""

Caller = Callable[[], AbstractContextManager[Act]]
"""Prepares one caller; the act to repeat. The end of the context is not measured."""


@dataclass(frozen=True, slots=True)
class Load:
    """The result of all callers: acts a second, and the milliseconds of each act."""

    rate: float
    times: tuple[float, ...]


def load(caller: Caller, count: int, seconds: float) -> Load:
    """Let `count` callers act for `seconds` that count. Raises RuntimeError when one fails."""
    gates = _Gates()
    reports = [_fork(caller, seconds, gates) for _ in range(count)]
    gates.close_inner()
    ready = [os.read(pipe, 1) for _, pipe in reports]
    began = time.perf_counter() + seconds * WARM_UP
    os.close(gates.begin_outer)
    texts = [_read_all(pipe) for _, pipe in reports]
    os.close(gates.leave_outer)
    statuses = [os.waitpid(pid, 0)[1] for pid, _ in reports]
    if any(statuses) or b"" in ready:
        raise RuntimeError("a caller failed; its message is above")
    values = [array.array("d", text) for text in texts]
    ends = max(one[0] for one in values)
    times = tuple(t for one in values for t in one[1:])
    return Load(len(times) / (ends - began), times)


class _Gates:
    """Two pipes. Their end of file lets all callers begin, and later leave."""

    def __init__(self) -> None:
        self.begin_inner, self.begin_outer = os.pipe()
        self.leave_inner, self.leave_outer = os.pipe()

    def close_inner(self) -> None:
        """Close the ends of the callers."""
        os.close(self.begin_inner)
        os.close(self.leave_inner)

    def close_outer(self) -> None:
        """Close the ends of the starter, in a caller."""
        os.close(self.begin_outer)
        os.close(self.leave_outer)


def _fork(caller: Caller, seconds: float, gates: _Gates) -> tuple[int, int]:
    """Start a caller: its pid, and the pipe of its reports."""
    reports_read, reports_write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(reports_write)
        return pid, reports_read
    status = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        gates.close_outer()
        _act(caller, seconds, gates, reports_write)
        status = 0
    except BaseException:  # nothing may return into the copy of the starter's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _act(caller: Caller, seconds: float, gates: _Gates, reports: int) -> None:
    with caller() as act:
        os.write(reports, b"r")
        os.read(gates.begin_inner, 1)
        values = array.array("d", [0.0])
        now = time.perf_counter()
        counts_from = now + seconds * WARM_UP
        while now < counts_from + seconds or len(values) == 1:
            before = now
            act()
            now = time.perf_counter()
            if before >= counts_from:
                values.append((now - before) * 1000)
        values[0] = now
        with os.fdopen(reports, "wb") as file:
            file.write(values.tobytes())
        # Deletions would slow the callers that still act.
        os.read(gates.leave_inner, 1)


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
