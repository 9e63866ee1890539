"""The form of a measure: a name, its meaning, the places that count, and a bound.

The value of a measure is the number of its places, unless another summary is named: the largest
size, the median, the sum. A value must not exceed `bound`; None means that it is only reported.
`goal` is the bound that the house wants: where today's tree is worse, `bound` is today's value,
so that it can only get better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .tree import Place, Tree

Summary = Callable[[Sequence[Place]], int]


def largest(places: Sequence[Place]) -> int:
    return max((place.size for place in places), default=0)


def total(places: Sequence[Place]) -> int:
    return sum(place.size for place in places)


def percentile(percent: int) -> Summary:
    """The summary that gives the size which so many of a hundred places do not exceed."""

    def of(places: Sequence[Place]) -> int:
        sizes = sorted(place.size for place in places)
        return sizes[min(len(sizes) * percent // 100, len(sizes) - 1)] if sizes else 0

    return of


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is counted. `meaning` names its places in a few words."""

    name: str
    meaning: str
    count: Callable[[Tree], Iterable[Place]]
    bound: int | None = None
    goal: int | None = None
    summary: Summary = len

    def take(self, tree: Tree) -> Result:
        """Measure a tree; the largest places come first, else they come in order of the files."""
        places = sorted(self.count(tree), key=lambda place: (-place.size, place.path, place.line))
        return Result(self, self.summary(places), tuple(places))


@dataclass(frozen=True, slots=True)
class Result:
    """The value of a measure on one tree, and its places."""

    measure: Measure
    value: int
    places: tuple[Place, ...]

    @property
    def over(self) -> bool:
        return self.measure.bound is not None and self.value > self.measure.bound

    @property
    def status(self) -> str:
        if self.measure.bound is None:
            return "-"
        return "over" if self.over else "ok"
