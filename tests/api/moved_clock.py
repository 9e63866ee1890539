"""The clocks of a server of the tests, which a test can move, also while the server runs.

The file BASE/clock has two numbers: the seconds that have passed beyond the real ones, and those by
which somebody set the time of day. A server reads them from memory at each look at a clock.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable
from pathlib import Path

from sandboxd.api.folders.tokens import Tokens

_PASSED, _SET = 0, 8
_SIZE = 16


def let_pass(base: Path, seconds: float) -> None:
    """Let so many seconds have passed besides those that have."""
    _write(base, _PASSED, seconds)


def set_time(base: Path, seconds: float) -> None:
    """Set the time of day so many seconds off the time of this host."""
    _write(base, _SET, seconds)


def _write(base: Path, at: int, seconds: float) -> None:
    with open(base / "clock", "r+b") as file:
        file.seek(at)
        file.write(struct.pack("d", seconds))


def obey(base: Path) -> None:
    """Let the clocks of this process go by the file."""
    real, running = time.time, time.clock_gettime
    read = _reader(base)
    time.time = lambda: real() + read(_PASSED) + read(_SET)
    time.clock_gettime = lambda clock: running(clock) + read(_PASSED)
    Tokens.__init__.__defaults__ = (lambda: time.monotonic() + read(_PASSED),)


def _reader(base: Path) -> Callable[[int], float]:
    with open(base / "clock", "a+b") as file:
        file.truncate(_SIZE)  # zeros, unless an earlier server made it
        memory = mmap.mmap(file.fileno(), _SIZE, prot=mmap.PROT_READ)

    def read(at: int) -> float:
        (seconds,) = struct.unpack_from("d", memory, at)
        return float(seconds)

    return read
