"""The turns in which a count looks at the descriptors of runs.

The number of descriptors is the choice of programs: copies of a descriptor cost them next to
nothing, and each costs a count some ten microseconds (a unit). So a count has a bound, in units and
not in seconds: a busy host must change no result. Runs take turns of SLICE, and so do the tables of
a run, those of MOST_OPEN at a time. Runs with few descriptors are done soon, whatever others have.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from ... import log
from ...host import procfs

T = TypeVar("T")

SLICE = 1024
"""Descriptors of a turn: about as many as one call lists (getdents64(2))."""

TABLE = 4
"""Units of a table of descriptors beside those in it."""

MOST_OPEN = 64
"""Tables that are listed at a time: each takes two descriptors of this process."""

RUN_MAX = 250_000
"""Units that a run may take: some three seconds. One that has more is over its limit. Large servers
have some ten thousand descriptors, or a few hundred in each of a few hundred processes."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The runs of which a count has not seen all.

    unclear    it has reached its bound before, or the kernel has not answered; those whose turn
               would be next come first
    excessive  they have taken RUN_MAX
    """

    unclear: list[str]
    excessive: list[str]


def take_turns(looks: dict[str, Iterator[int]], most: int) -> Unfinished:
    """Look at runs in turn, until all are done or `most` units are taken. `looks` has the looks at
    the descriptors of each run, which return their units.

    A run that is over its limit, or that cannot be looked at, ends only its own look: a session
    that has one again and again would else keep the others from being counted. The log has errors
    other than a want of descriptors or memory."""
    taken, waiting, excessive = Counter[str](), deque(looks), list[str]()
    unread = list[str]()
    while waiting and taken.total() < most:
        name = waiting.popleft()
        try:
            units, is_done = _turn(looks[name])
        except OSError as error:
            unread.append(name)
            if error.errno not in procfs.SHORTAGE:
                log.event("run.unread", logging.ERROR, run=name, error=str(error))
            continue
        taken[name] += units
        if not is_done:
            (excessive if taken[name] >= RUN_MAX else waiting).append(name)
    return Unfinished([*waiting, *unread], excessive)


def _turn(look: Iterator[int]) -> tuple[int, bool]:
    """The units of a turn, and whether the run is done."""
    units = 0
    for one in look:
        units += one
        if units >= SLICE:
            return units, False
    return units, True


def in_slices(tables: Iterable[Iterator[T]]) -> Iterator[T]:
    """The items of all tables, SLICE of each in turn."""
    coming = iter(tables)
    waiting = deque(islice(coming, MOST_OPEN))
    while waiting:
        table, number = waiting.popleft(), 0
        for item in islice(table, SLICE):
            yield item
            number += 1
        waiting.extend([table] if number == SLICE else islice(coming, 1))
