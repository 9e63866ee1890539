"""The rate limit of a keypair: a rolling window, exact to the request."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

WINDOW_S = 900


@dataclass(frozen=True, slots=True)
class RollingWindow:
    """The window of a caller after a request.

    limit      requests that it allows
    remaining  requests of these that are left
    wait_s     seconds until the next request is allowed, if this one was over the limit
    """

    limit: int
    remaining: int
    wait_s: int = 0


UNCOUNTED = RollingWindow(1000, 1000)
"""The window of unsigned requests, which are not counted."""


class RateLimiter:
    """The times of the requests of the last window, by access key: at most its limit each."""

    def __init__(self) -> None:
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)

    def count(self, access_key: str, limit: int, now: float) -> RollingWindow:
        """One more request at the monotonic time `now`, in seconds; not counted if over `limit`."""
        times = self._times[access_key]
        while times and times[0] <= now - WINDOW_S:
            times.popleft()
        if len(times) >= limit:
            return RollingWindow(limit, 0, int(times[0] + WINDOW_S - now) + 1)
        times.append(now)
        return RollingWindow(limit, limit - len(times))
