"""The patience of a command with a daemon that restarts.

A service comes back after a restart, with its sessions. An act that may be done twice is therefore
repeated for a while. A private daemon does not come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import Unavailable
from .client import Client, ConnectionLost
from .reporter import Reporter

COMES_BACK_S, RETRY_S = 60.0, 0.25
"""Seconds that a daemon may take to return after a restart, and seconds between two tries."""

Result = TypeVar("Result")


def patiently(client: Client, say: Reporter, what: str, act: Callable[[], Result]) -> Result:
    """The result of `act`, which is called again while the daemon restarts. Raises as `act` does,
    also when the daemon stays away. A daemon may still answer while it ends."""
    until = 0.0
    while True:
        try:
            return act()
        except Unavailable as error:
            if not isinstance(error, ConnectionLost) and client.answers():
                raise
            now = time.monotonic()
            if not client.comes_back or (until and now > until):
                raise
            if not until:
                until = now + COMES_BACK_S
                say.warning(f"{error}; {what} is tried again for {COMES_BACK_S:.0f} s")
        time.sleep(RETRY_S)
