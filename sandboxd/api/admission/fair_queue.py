"""The fair queue: whose turn it is where there is not enough for all. A rule without I/O.

A key waits for an amount in the name of its owner, is granted the amount when its turn comes, and
releases it later. An amount is a count (of runs, of sessions), a size (bytes of memory or disk)
and a number of tasks (processes and threads).

    1. Owners take turns. Within one owner, keys are granted in the order of their requests.
    2. One owner has at most `owner`, all together have at most `total`. An owner who would have
       more is passed over until a key of the owner releases something, and loses no turn by it.
    3. A key whose turn it is, but that does not fit into `total` yet, holds up all others: the
       amounts that come free are for this key. So many small keys never starve a large one.
    4. A key that asks for a larger size than `total` has counts as that size: it is granted its
       amount, alone. The same holds for the share of its owner, also for tasks.
    5. A key that asks for more tasks than `total` has is passed over: alone, too, it could take
       the last tasks of the host, and until the host has more, nobody waits for it.

A key that is the first of all and fits is granted its amount at once: the rule is the same with and
without a queue.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Literal

Part = Literal["count", "size", "tasks"]
Reason = Literal[
    "turn", "count", "size", "tasks", "owner count", "owner size", "owner tasks", "paused"
]
"""Why a key waits: others come first, or a bound of all or of one owner is reached."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A count of things, their size and their tasks together."""

    count: int = 0
    size: int = 0
    tasks: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.count + other.count, self.size + other.size, self.tasks + other.tasks)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.count - other.count, self.size - other.size, self.tasks - other.tasks)

    def exceeded(self, more: Amount, bound: Amount) -> Literal["", Part]:
        """The part of `bound` that would be exceeded with `more`; "": none. An amount that is
        larger than the bound exceeds it only together with others."""
        if self.count + more.count > bound.count:
            return "count"
        if self.size + min(more.size, bound.size) > bound.size:
            return "size"
        return "tasks" if self.tasks + min(more.tasks, bound.tasks) > bound.tasks else ""


class FairQueue:
    """The granted amounts and the waiting keys; a key is used once at a time.

    total, owner  the amounts for all together, and for one owner; they may change at any time
    paused        nothing is granted, for now
    """

    def __init__(self, total: Amount, owner: Amount) -> None:
        self.total = total
        self.owner = owner
        self.paused = False
        self._queued: dict[str, dict[Hashable, Amount]] = {}  # owners in the order of their turns
        self._granted: dict[Hashable, tuple[str, Amount]] = {}
        self._used_by: dict[str, Amount] = {}
        self._used = Amount()

    @property
    def used(self) -> Amount:
        """The amount that all keys together have."""
        return self._used

    @property
    def holders(self) -> list[Hashable]:
        """The keys that have an amount."""
        return list(self._granted)

    def used_by(self, owner: str) -> Amount:
        """The amount that the keys of an owner have."""
        return self._used_by.get(owner, Amount())

    def queued_of(self, owner: str) -> int:
        """How many keys of an owner wait."""
        return len(self._queued.get(owner, ()))

    @property
    def queued(self) -> int:
        """How many keys wait."""
        return sum(map(len, self._queued.values()))

    def enqueue(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Have a key wait for `amount`; `grant_due` grants it."""
        self._queued.setdefault(owner, {})[key] = amount

    def grant(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Grant an amount, also above the bounds: the key had it before the daemon started."""
        self._granted[key] = owner, amount
        self._used_by[owner] = self.used_by(owner) + amount
        self._used += amount

    def release(self, key: Hashable) -> None:
        """Release the amount of `key`, or end its wait; nothing happens if it has neither."""
        if key in self._granted:
            owner, amount = self._granted.pop(key)
            self._used -= amount
            self._used_by[owner] -= amount
            if self._used_by[owner] == Amount():
                del self._used_by[owner]
            return
        for owner, keys in self._queued.items():
            if keys.pop(key, None) is not None:
                if not keys:
                    del self._queued[owner]
                return

    def grant_due(self) -> Iterator[Hashable]:
        """Grant the amounts of the keys whose turn has come; these keys."""
        while (owner := self._next_owner()) is not None:
            keys = self._queued.pop(owner)
            key = next(iter(keys))
            self.grant(key, owner, keys.pop(key))
            if keys:
                self._queued[owner] = keys  # behind all others
            yield key

    def _next_owner(self) -> str | None:
        """The owner whose turn it is, if the amount of the owner's first key is there."""
        if self.paused:
            return None
        for owner, keys in self._queued.items():
            amount = next(iter(keys.values()))
            if self._is_too_large(amount):
                continue
            if not self.used_by(owner).exceeded(amount, self.owner):
                return None if self._used.exceeded(amount, self.total) else owner
        return None

    def has_room(self, owner: str, amount: Amount) -> bool:
        """A key of `owner` that asks for `amount` now is granted it at once."""
        if self.paused or self._queued or self._is_too_large(amount):
            return False
        is_bounded = self.used_by(owner).exceeded(amount, self.owner)
        return not (is_bounded or self._used.exceeded(amount, self.total))

    def _is_too_large(self, amount: Amount) -> bool:
        return amount.tasks > self.total.tasks

    def place(self, key: Hashable) -> tuple[int, Reason] | None:
        """The position of `key`, and why it waits; None: it does not. Position 1 is the next,
        unless the owner of the key is passed over."""
        owners = list(self._queued)
        for index, (owner, keys) in enumerate(self._queued.items()):
            if key not in keys:
                continue
            before = list(keys).index(key)
            # Another owner has one turn in each round before this key's, and one in the same
            # round if that owner comes earlier in it.
            others = (
                min(len(self._queued[other]), before + (turn < index))
                for turn, other in enumerate(owners)
                if turn != index
            )
            return before + sum(others) + 1, self._reason(owner, keys[key])
        return None

    def _reason(self, owner: str, amount: Amount) -> Reason:
        if self.paused:
            return "paused"
        if self._is_too_large(amount):
            return "tasks"
        match self.used_by(owner).exceeded(amount, self.owner):
            case "count":
                return "owner count"
            case "size":
                return "owner size"
            case "tasks":
                return "owner tasks"
        return self._used.exceeded(amount, self.total) or "turn"
