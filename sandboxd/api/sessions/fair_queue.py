"""Whose turn it is where there is not enough for everybody. A rule without I/O.

Somebody asks for an amount in the name of an owner, has it from his turn on, and gives it back.
An amount is a count (of runs, of sessions) and a size (bytes of memory, of disk).

    1. Owners take turns, and are served in the order of asking within one owner.
    2. One owner has at most `owner`, all together have at most `total`. An owner who would have
       more is passed over until he gives something back, and loses no turn by it.
    3. Whose turn it is, but does not fit into `total` yet, is waited for: what comes free is
       kept for him. So many small ones never starve a large one.
    4. Who asks for more than there is at all counts as all there is: he gets it, alone.

Who asks first of all and fits gets it at once: the rule is the same with and without a queue.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Literal

Reason = Literal["turn", "count", "size", "owner count", "owner size", "paused"]
"""Why somebody waits: others come first, or a bound of all or of one owner is reached."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How many, and how much of them together."""

    count: int = 0
    size: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.count + other.count, self.size + other.size)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.count - other.count, self.size - other.size)

    def short(self, more: Amount, bound: Amount) -> Literal["", "count", "size"]:
        """What of `bound` would be broken by `more`; "": nothing."""
        if self.count + more.count > bound.count:
            return "count"
        return "size" if self.size + min(more.size, bound.size) > bound.size else ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody waits: 1 is the next, unless he is passed over; and why."""

    position: int
    reason: Reason


class FairQueue:
    """Who has something and who waits for it, by keys that are used once at a time.

    total, owner  what all together, and one owner, may have; they may change at any time
    paused        nobody gets anything any more, for now
    """

    def __init__(self, total: Amount, owner: Amount) -> None:
        self.total = total
        self.owner = owner
        self.paused = False
        self._waiting: dict[str, dict[Hashable, Amount]] = {}  # owners in the order of their turns
        self._has: dict[Hashable, tuple[str, Amount]] = {}
        self._used: dict[str, Amount] = {}
        self._sum = Amount()

    @property
    def used(self) -> Amount:
        """What everybody has together."""
        return self._sum

    @property
    def holders(self) -> list[Hashable]:
        """Who has something."""
        return list(self._has)

    def used_by(self, owner: str) -> Amount:
        """What an owner has."""
        return self._used.get(owner, Amount())

    def waiting_of(self, owner: str) -> int:
        """How many of an owner wait."""
        return len(self._waiting.get(owner, ()))

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def ask(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Wait for `amount`; `due` says when it is had."""
        self._waiting.setdefault(owner, {})[key] = amount

    def take(self, key: Hashable, owner: str, amount: Amount) -> None:
        """Have it, whatever the bounds say: it was had before the daemon was started."""
        self._has[key] = owner, amount
        self._used[owner] = self.used_by(owner) + amount
        self._sum += amount

    def leave(self, key: Hashable) -> None:
        """Give back what `key` has, or wait no more. Who does neither may say so, too."""
        if key in self._has:
            owner, amount = self._has.pop(key)
            self._sum -= amount
            self._used[owner] -= amount
            if self._used[owner] == Amount():
                del self._used[owner]
            return
        for owner, line in self._waiting.items():
            if line.pop(key, None) is not None:
                if not line:
                    del self._waiting[owner]
                return

    def due(self) -> Iterator[Hashable]:
        """Whose turn has come: they have it now."""
        while (owner := self._next()) is not None:
            line = self._waiting.pop(owner)
            key = next(iter(line))
            self.take(key, owner, line.pop(key))
            if line:
                self._waiting[owner] = line  # behind all others
            yield key

    def _next(self) -> str | None:
        """The owner whose turn it is, if what he asks for is there."""
        if self.paused:
            return None
        for owner, line in self._waiting.items():
            amount = next(iter(line.values()))
            if not self.used_by(owner).short(amount, self.owner):
                return None if self._sum.short(amount, self.total) else owner
        return None

    def standing(self, key: Hashable) -> Standing | None:
        """Where `key` waits; None: it does not."""
        owners = list(self._waiting)
        for index, (owner, line) in enumerate(self._waiting.items()):
            if key not in line:
                continue
            before = list(line).index(key)
            # in each round before his, and in his own if they come earlier in it, others have one
            others = (
                min(len(self._waiting[other]), before + (place < index))
                for place, other in enumerate(owners)
                if place != index
            )
            return Standing(before + sum(others) + 1, self._reason(owner, line[key]))
        return None

    def _reason(self, owner: str, amount: Amount) -> Reason:
        if self.paused:
            return "paused"
        match self.used_by(owner).short(amount, self.owner):
            case "count":
                return "owner count"
            case "size":
                return "owner size"
        return self._sum.short(amount, self.total) or "turn"
