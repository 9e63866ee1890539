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

PATIENCE_S = 25.0 * SLOWNESS
"""Seconds that anything may take on a busy machine before a test fails."""


def until(
    condition: Callable[[], Result | None],
    patience_s: float = PATIENCE_S,
    why: Callable[[], object] | str = "",
) -> Result:
    """The first result of `condition` that is true. `why` tells more of what does not come."""
    deadline = time.monotonic() + patience_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            text = why() if callable(why) else why
            raise AssertionError(f"nothing happens for {patience_s:.0f} s: {text}")
        time.sleep(0.02)
    return result


async def eventually(condition: Callable[[], Result | None]) -> Result:
    """As `until`, for a coroutine."""
    async with asyncio.timeout(PATIENCE_S):
        while not (result := condition()):
            await asyncio.sleep(0.01)
        return result
