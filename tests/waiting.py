"""Waiting for an event instead of sleeping. A timeout here is only a guard against hanging."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

SLOWNESS = float(os.environ.get("SANDBOXD_TEST_SLOWNESS", "1"))
"""How much slower than hardware the machine is: an emulated one (scripts/test-vm)."""

PATIENCE_S = 60.0 * SLOWNESS
"""Seconds that anything may take on a busy machine before a test fails."""


class Patience:
    """The patience with a loop that does more than wait: `pause` after each of its rounds."""

    def __init__(self, why: Callable[[], object] | str = "", seconds: float = PATIENCE_S) -> None:
        """`why` tells more of what does not come, after `seconds`."""
        self._why, self._seconds = why, seconds
        self._end = time.monotonic() + seconds

    def pause(self, seconds: float = 0.02) -> None:
        """Wait for a moment. Raises AssertionError when the patience is over."""
        if time.monotonic() > self._end:
            text = self._why() if callable(self._why) else self._why
            raise AssertionError(f"nothing happens for {self._seconds:.0f} s: {text}")
        time.sleep(seconds)


def until(
    condition: Callable[[], Result | None],
    patience_s: float = PATIENCE_S,
    why: Callable[[], object] | str = "",
) -> Result:
    """The first result of `condition` that is true. `why` tells more of what does not come."""
    patience = Patience(why, patience_s)
    while not (result := condition()):
        patience.pause()
    return result


def steady(
    look: Callable[[], Result], seconds: float = 1.0, why: Callable[[], object] | str = ""
) -> Result:
    """The result of `look` once it is the same as so many seconds before. `why` as of `until`."""
    patience = Patience(why)
    before, now = None, look()
    while now != before:
        patience.pause(seconds)
        before, now = now, look()
    return now


async def eventually(condition: Callable[[], Result | None]) -> Result:
    """As `until`, for a coroutine."""
    async with asyncio.timeout(PATIENCE_S):
        while not (result := condition()):
            await asyncio.sleep(0.01)
        return result
