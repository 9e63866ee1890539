"""The memory against replay: each signature of a write is accepted once.

A signature is valid as long as its date is within the allowed skew, so an eavesdropper could repeat
the request. Therefore the accepted signatures of requests that change something are remembered
until their date has run out: both by the host's clock and by a monotonic one, because a clock that
was ahead may be set back. Reads may repeat.

The memory of each access key has its own bound, so no key can fill the memory of another. When it
is full, further writes of that key are refused, because a forgotten signature could be replayed.
The memory is lost with the process: a request of before a restart could be replayed after it.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

from ...errors import AuthFailed, RateLimited
from .signature import SKEW, Claim

WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))

KEPT_MAX = 100_000
"""Signatures remembered for one access key: more than the default rate limit allows in the 30
minutes for which a date in the future can be valid."""


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
        """Remember a write that is accepted, after `refuse` has let it pass."""
        seen = self._seen[claim.access_key]
        seen.signatures.add(claim.signature)
        # a second more, so that rounding cannot make the two clocks differ about the end
        valid_until = (claim.when + SKEW).timestamp() + 1
        left = valid_until - now
        heapq.heappush(seen.expiries, (running + left, valid_until, claim.signature))
