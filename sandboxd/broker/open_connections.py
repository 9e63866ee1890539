"""The connections of all runs: their number, their shares, and the counts of those that are over.

No I/O.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..config.network_profiles import NetworkConfig
from .forward import Secret
from .shares import NetworkBounds, Share

CONNECTIONS_MAX = 2000
"""Open connections of all runs."""

SHARES_MAX = 10000

ShareKey = tuple[str, ...]

Secrets = dict[str, tuple[Secret, ...]]
"""Profile -> its secrets."""

Resume = Callable[[], None]


class OpenConnections:
    """The connections of all runs of one broker.

    open     the number of open ones
    paused   called when a connection has ended, in the order of their turns: those of runs without
             room for a further one
    """

    def __init__(self, network: NetworkConfig, secrets: Secrets) -> None:
        self.network = network
        self.secrets = secrets
        self.open = 0
        self.paused: dict[Resume, None] = {}
        self.outcomes: Counter[str] = Counter()
        self._bytes = {"sent": 0, "received": 0}
        self._shares: dict[ShareKey, Share] = {}

    @property
    def has_room(self) -> bool:
        """One more connection may be opened."""
        return self.open < CONNECTIONS_MAX

    def resume(self) -> None:
        """A connection has ended: another one may begin, of any run."""
        for resume in tuple(self.paused):
            resume()

    def share(self, key: ShareKey, bounds: NetworkBounds) -> Share:
        """The share of a session or an owner in a profile. It lasts beyond the run."""
        share = self._shares.get(key)
        if share is None:
            if len(self._shares) >= SHARES_MAX:
                self._forget_shares()
            share = self._shares[key] = Share(bounds, time.monotonic)
        return share

    def _forget_shares(self) -> None:
        """Make room. An owner's share stays: its bytes would be counted anew. Of the shares of
        sessions without a run, those go first that have transferred least."""
        idle = [
            (share.left / share.bounds.bytes, key)
            for key, share in self._shares.items()
            if not share.links and (key[0] == "session" or share.is_unused)
        ]
        for _, key in sorted(idle, reverse=True)[: SHARES_MAX // 10]:
            del self._shares[key]

    def count(self, outcome: str, sent: int, received: int) -> None:
        """A connection is over."""
        self.outcomes[outcome] += 1
        self._bytes["sent"] += sent
        self._bytes["received"] += received

    def counts(self) -> dict[str, Any]:
        """Connections by outcome, bytes, and open connections."""
        return {"outcomes": self.outcomes, "bytes": self._bytes, "open": self.open}
