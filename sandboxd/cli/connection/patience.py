"""The patience of a command with a daemon that restarts.

A service comes back after a restart, with its sessions. An act that may be done twice is therefore
repeated for a while. A private daemon does not come back.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TypeVar

from ...errors import Unavailable
from ..reporter import Reporter
from .client import Client, ConnectionLost

COMES_BACK_S, RETRY_S = 60.0, 0.25
"""Seconds that a daemon may take to return after a restart, and seconds between two tries."""

Result = TypeVar("Result")


class Absence:
    """The absence of a daemon, from the first try that fails on."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._until = 0.0

    def wait(self, begins: Callable[[], None] = lambda: None) -> bool:
        """Wait for a moment before the next try; False: the daemon stays away. `begins` is called
        for the first try that has failed."""
        now = time.monotonic()
        if not self._client.comes_back or (self._until and now > self._until):
            return False
        if not self._until:
            self._until = now + COMES_BACK_S
            begins()
        time.sleep(RETRY_S)
        return True

    def end(self) -> None:
        """The daemon is there again."""
        self._until = 0.0


def patiently(client: Client, say: Reporter, what: str, act: Callable[[], Result]) -> Result:
    """The result of `act`, which is called again while the daemon restarts. Raises as `act` does,
    also when the daemon stays away. A daemon may still answer while it ends."""
    absence = Absence(client)
    while True:
        try:
            return act()
        except Unavailable as error:
            if not isinstance(error, ConnectionLost) and client.answers():
                raise
            text = f"{error}; {what} is tried again for {COMES_BACK_S:.0f} s"
            if not absence.wait(functools.partial(say.warning, text)):
                raise
