"""The places of connections: the rule that says which connection may come, and which one has to go
for it. No I/O.

The clients of one kind have a number of places, and an address has a share of them. When they are
short, a newcomer gets the place of another connection, in this order, the oldest first:

    SILENT    it has not sent the head of a request yet
    STRANGER  it has sent requests, and none was authenticated

A connection that has carried an authenticated request is KNOWN and keeps its place, up to a number
of connections of one owner. A newcomer is refused only where all others are KNOWN. An address that
has used up its share pays with its own connections.
"""

from __future__ import annotations

import enum
import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass


class Rank(enum.Enum):
    """The behaviour of a connection so far."""

    SILENT = enum.auto()
    STRANGER = enum.auto()
    KNOWN = enum.auto()


_YIELDING = (Rank.SILENT, Rank.STRANGER)
"""The ranks whose connections give way, in this order."""


@dataclass(frozen=True, slots=True)
class PlaceBounds:
    """The bounds of the places for clients of one kind.

    places  connections
    source  connections of one address
    owner   connections of one owner that keep their places
    """

    places: int
    source: int
    owner: int


@dataclass(eq=False, slots=True)
class Place:
    """The place of one connection. Root's connections to the Unix socket have no `source`."""

    source: str
    rank: Rank = Rank.SILENT
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """The answer to a newcomer: its place and the one that it replaces, or the status of HTTP that
    refuses it."""

    place: Place | None = None
    replaced: Place | None = None
    status: int = 0


_Queue = OrderedDict[Place, None]  # a dict would need a long search for its first item


class Places:
    """The places for clients of one kind."""

    def __init__(self) -> None:
        self._count = 0
        self._sources: Counter[str] = Counter()
        self._owners: Counter[str] = Counter()
        self._yielding: dict[Rank, _Queue] = {rank: _Queue() for rank in _YIELDING}
        self._yielding_of: dict[str, dict[Rank, _Queue]] = {}

    def __len__(self) -> int:
        return self._count

    def arrive(self, source: str, bounds: PlaceBounds) -> Arrival:
        """A connection from `source` has come."""
        replaced = None
        if source and self._sources[source] >= bounds.source:
            replaced = _oldest(self._yielding_of.get(source, {}))
            if replaced is None:
                return Arrival(status=429)
        elif self._count >= bounds.places:
            replaced = _oldest(self._yielding)
            if replaced is None:
                return Arrival(status=503)
        if replaced:
            self.leave(replaced)
        place = Place(source)
        self._count += 1
        self._sources[source] += 1
        self._enqueue(place)
        return Arrival(place, replaced)

    def speak(self, place: Place) -> None:
        """The connection has sent the head of a request."""
        if place.rank is Rank.SILENT:
            self._dequeue(place)
            place.rank = Rank.STRANGER
            self._enqueue(place)

    def mark_known(self, place: Place, owner: str, bounds: PlaceBounds) -> None:
        """A request of `owner` on the connection was authenticated."""
        if place.rank is Rank.KNOWN or self._owners[owner] >= bounds.owner:
            return
        self._dequeue(place)
        place.rank, place.owner = Rank.KNOWN, owner
        self._owners[owner] += 1

    def leave(self, place: Place) -> None:
        """The connection is gone, or has lost its place."""
        self._count -= 1
        _decrement(self._sources, place.source)
        if place.rank is Rank.KNOWN:
            _decrement(self._owners, place.owner)
        else:
            self._dequeue(place)

    def _enqueue(self, place: Place) -> None:
        of_source = self._yielding_of.setdefault(
            place.source, {rank: _Queue() for rank in _YIELDING}
        )
        for queues in (self._yielding, of_source):
            queues[place.rank][place] = None

    def _dequeue(self, place: Place) -> None:
        of_source = self._yielding_of[place.source]
        for queues in (self._yielding, of_source):
            del queues[place.rank][place]
        if not any(of_source.values()):
            del self._yielding_of[place.source]


def _oldest(queues: dict[Rank, _Queue]) -> Place | None:
    return next((place for rank in _YIELDING for place in queues.get(rank, ())), None)


def _decrement(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def source_of(address: str) -> str:
    """The source that a peer's address belongs to: an IPv4 address, or the first half of an IPv6
    address, since a subscriber gets a whole network of 64 bits."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))
