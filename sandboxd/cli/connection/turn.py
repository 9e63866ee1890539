"""The wait of a command for its turn, on a machine that is full or drained.

The lines name the reason, and the position where the daemon knows it. They come at each change and
twice a minute: a CI system ends a job that prints nothing for long.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...errors import Unavailable
from ..reporter import Reporter

REPEAT_S = 30.0
POLL_S = 1.0


class TurnWait:
    """The wait of one command, for `wait_s` at most; None: as long as it takes."""

    def __init__(self, say: Reporter, wait_s: float | None) -> None:
        self._say = say
        self._wait_s = wait_s
        self._began = time.monotonic()
        self._text = ""
        self._said_at = 0.0

    def waits(self, reason: str, position: int | None = None) -> None:
        """Report that the command waits. Raises Unavailable when it has waited long enough."""
        now = time.monotonic()
        if self._wait_s is not None and now - self._began >= self._wait_s:
            raise Unavailable(
                f"no turn within --wait {self._wait_s:g}: {reason}; wait longer, or try later"
            )
        place = "" if position is None else f"position {position}: "
        text = f"waiting, {place}{reason}"
        if text != self._text or now - self._said_at >= REPEAT_S:
            self._text, self._said_at = text, now
            waited = round(now - self._began)
            self._say.phase(
                f"{text} (for {waited} s)" if waited else text,
                always=True,
                waiting={"position": position, "reason": reason, "seconds": waited},
            )

    def queued(self, queue: Mapping[str, Any]) -> None:
        """As `waits`, by the `queue` of a response."""
        self.waits(str(queue["reason"]), int(queue["position"]))

    def pause(self) -> None:
        """Wait until it makes sense to ask again."""
        time.sleep(POLL_S)
