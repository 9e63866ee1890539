"""The progress of a transfer: a bar on a terminal, otherwise a line a second at most."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from ..reporter import Reporter

LINE_S, BAR_S = 1.0, 0.2
"""Seconds between two lines, and seconds before a bar appears: most transfers are shorter."""

Advance = Callable[[int], object]
"""To be called with the number of bytes that went since the last call."""


@contextlib.contextmanager
def progress(say: Reporter, verb: str, total: int | None = None) -> Iterator[Advance]:
    """Show a transfer of `total` bytes (None: unknown) while the block is active."""
    if say.draws:
        with _bar(say, verb, total) as advance:
            yield advance
    else:
        yield _lines(say, verb, total)


@contextlib.contextmanager
def _bar(say: Reporter, verb: str, total: int | None) -> Iterator[Advance]:
    """Bytes, rate and time left, in a line on standard error that vanishes at the end."""
    from tqdm import tqdm  # 8 ms, for terminals only

    tqdm.monitor_interval = 0  # no thread
    with tqdm(
        desc=f"sandboxd: {verb}", total=total, unit="B", unit_scale=True, unit_divisor=1024,
        file=sys.stderr, leave=False, delay=BAR_S, ncols=_columns(), nrows=2,
    ) as bar:  # fmt: skip
        say.bar = bar
        try:
            yield bar.update
        finally:
            say.bar = None


def _columns() -> int:
    """The width of the screen. A terminal may not know its size; tqdm would then draw nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def _lines(say: Reporter, verb: str, total: int | None) -> Advance:
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= LINE_S:
            last = time.monotonic()
            of = f" of {total:,}" if total is not None else ""
            say.phase(f"{verb} {done:,}{of} bytes", bytes=done)

    return advance
