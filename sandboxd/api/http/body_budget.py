"""The memory for what clients send: JSON bodies and WebSocket messages of all connections together.

A body or a message counts from its first byte until its request, or the application, is done with
it. One owner gets a part of the total, so that one cannot use up the memory of all.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Scope

OWNER_SHARE = 0.5
"""The part of the total that one owner may use."""


class BodyBudget:
    """`most` bytes for all clients together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._owners: Counter[str] = Counter()

    def has_room(self, owner: str, size: int) -> bool:
        """`owner` may use `size` bytes more; "" is an owner without a share of its own."""
        if self.used + size > self.most:
            return False
        return not owner or self._owners[owner] + size <= self.most * OWNER_SHARE

    def add(self, owner: str, size: int) -> None:
        """Count `size` bytes more, or fewer if it is negative."""
        self.used += size
        self._owners[owner] += size
        if not self._owners[owner]:
            del self._owners[owner]


class Reservation:
    """The bytes of one connection or request, of one owner."""

    def __init__(self, budget: BodyBudget, owner: str = "") -> None:
        self._budget = budget
        self._owner = owner
        self.size = 0

    def resize(self, size: int) -> bool:
        """Use `size` bytes from now on; false, and nothing changes, where that is too much."""
        more = size - self.size
        if more > 0 and not self._budget.has_room(self._owner, more):
            return False
        self._budget.add(self._owner, more)
        self.size = size
        return True

    def belong_to(self, owner: str) -> None:
        """Count the bytes as those of `owner`."""
        self._budget.add(self._owner, -self.size)
        self._budget.add(owner, self.size)
        self._owner = owner


_STATE = "body"


def count_body(request: HTTPConnection, size: int) -> None:
    """Count `size` bytes of this request's body, until its end. Raises HTTPException 503 when too
    many are in use."""
    state: dict[str, Any] = request.scope["state"]
    if (reservation := state.get(_STATE)) is None:
        owner = getattr(state.get("caller"), "name", "")
        reservation = state[_STATE] = Reservation(request.app.state.sandboxd.bodies, owner)
    if not reservation.resize(reservation.size + size):
        headers = {"retry-after": "1", "connection": "close"}
        raise HTTPException(503, "too many clients are sending a body at once", headers)


def release(scope: Scope) -> None:
    """The request of `scope` is over."""
    if reservation := scope["state"].pop(_STATE, None):
        reservation.resize(0)
