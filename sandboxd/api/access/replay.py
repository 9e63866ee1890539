"""Signed writes are good once.

A signature can be checked again as long as its date is within the allowed skew, so whoever
overhears one could repeat the request. For requests that change something, the signatures that
were accepted are remembered until their date has run out, by the host's clock and by one that
nobody sets: a clock that was ahead for a while may be set back. Reads may repeat.

The memory is bounded for each access key by itself, so that no key can fill another's. When it
is full, further writes of that key are refused: to forget one would be to let it come again.
It is lost with the process; what was overheard before a restart could be repeated after it.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

from ...errors import AuthFailed, RateLimited
from .signature import SKEW, Claim

WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))

KEPT_MAX = 100_000
"""Signatures remembered for one access key: more than the default rate limit lets it make
in the 30 minutes that a date of the future can be good for."""


@dataclass(slots=True)
class _Seen:
    signatures: set[bytes] = field(default_factory=set)
    expiries: list[tuple[float, float, bytes]] = field(default_factory=list)  # a heap

    def prune(self, now: float, running: float) -> None:
        while self.expiries and self.expiries[0][0] < running and self.expiries[0][1] < now:
            self.signatures.discard(heapq.heappop(self.expiries)[2])


class Replays:
    """The writes that were accepted, by access key."""

    def __init__(self, most: int = KEPT_MAX) -> None:
        self._most = most
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)

    def refuse(self, claim: Claim, now: float, running: float) -> None:
        """Raise AuthFailed for a signature that was remembered, RateLimited when no more fit.

        `claim` is verified; `now` is in seconds since 1970, `running` monotonic.
        """
        seen = self._seen[claim.access_key]
        seen.prune(now, running)
        if claim.signature in seen.signatures:
            raise AuthFailed(
                "replay: this signature was used before; sign each request with a date of its "
                "own, with fractions of a second"
            )
        if len(seen.signatures) >= self._most:
            raise RateLimited(f"more than {self._most} signed writes within {2 * SKEW}")

    def remember(self, claim: Claim, now: float, running: float) -> None:
        """The write was accepted, after `refuse` let it pass."""
        seen = self._seen[claim.access_key]
        seen.signatures.add(claim.signature)
        # a second more, lest rounding makes the two clocks disagree about the last moment
        good_until = (claim.when + SKEW).timestamp() + 1
        left = good_until - now
        heapq.heappush(seen.expiries, (running + left, good_until, claim.signature))
