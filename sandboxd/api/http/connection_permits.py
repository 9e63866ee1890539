"""The permits of connections: the rule that says which connection may come, and which one has to go
for it. No I/O.

The clients of one kind have a number of permits, and an address has a share of them. When they are
short, a newcomer gets the permit of another connection, in this order, the oldest first:

    SILENT    it has not sent the head of a request yet
    STRANGER  it has sent requests, and none was authenticated

A connection that has carried an authenticated request is KNOWN and keeps its permit, up to a number
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
class PermitBounds:
    """The bounds of the permits for clients of one kind.

    permits  connections
    source   connections of one address
    owner    connections of one owner that keep their permits
    """

    permits: int
    source: int
    owner: int


@dataclass(eq=False, slots=True)
class Permit:
    """The permit of one connection. Root's connections to the Unix socket have no `source`."""

    source: str
    rank: Rank = Rank.SILENT
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """The answer to a newcomer: its permit and the one that it replaces, or the status of HTTP that
    refuses it."""

    permit: Permit | None = None
    replaced: Permit | None = None
    status: int = 0


_Queue = OrderedDict[Permit, None]  # a dict would need a long search for its first item


class Permits:
    """The permits for clients of one kind."""

    def __init__(self) -> None:
        self._count = 0
        self._sources: Counter[str] = Counter()
        self._owners: Counter[str] = Counter()
        self._yielding: dict[Rank, _Queue] = {rank: _Queue() for rank in _YIELDING}
        self._yielding_of: dict[str, dict[Rank, _Queue]] = {}

    def __len__(self) -> int:
        return self._count

    def arrive(self, source: str, bounds: PermitBounds) -> Arrival:
        """A connection from `source` has come."""
        replaced = None
        if source and self._sources[source] >= bounds.source:
            replaced = _oldest(self._yielding_of.get(source, {}))
            if replaced is None:
                return Arrival(status=429)
        elif self._count >= bounds.permits:
            replaced = _oldest(self._yielding)
            if replaced is None:
                return Arrival(status=503)
        if replaced:
            self.leave(replaced)
        permit = Permit(source)
        self._count += 1
        self._sources[source] += 1
        self._enqueue(permit)
        return Arrival(permit, replaced)

    def speak(self, permit: Permit) -> None:
        """The connection has sent the head of a request."""
        if permit.rank is Rank.SILENT:
            self._dequeue(permit)
            permit.rank = Rank.STRANGER
            self._enqueue(permit)

    def mark_known(self, permit: Permit, owner: str, bounds: PermitBounds) -> None:
        """A request of `owner` on the connection was authenticated."""
        if permit.rank is Rank.KNOWN or self._owners[owner] >= bounds.owner:
            return
        self._dequeue(permit)
        permit.rank, permit.owner = Rank.KNOWN, owner
        self._owners[owner] += 1

    def leave(self, permit: Permit) -> None:
        """The connection is gone, or has lost its permit."""
        self._count -= 1
        _decrement(self._sources, permit.source)
        if permit.rank is Rank.KNOWN:
            _decrement(self._owners, permit.owner)
        else:
            self._dequeue(permit)

    def _enqueue(self, permit: Permit) -> None:
        of_source = self._yielding_of.setdefault(
            permit.source, {rank: _Queue() for rank in _YIELDING}
        )
        for queues in (self._yielding, of_source):
            queues[permit.rank][permit] = None

    def _dequeue(self, permit: Permit) -> None:
        of_source = self._yielding_of[permit.source]
        for queues in (self._yielding, of_source):
            del queues[permit.rank][permit]
        if not any(of_source.values()):
            del self._yielding_of[permit.source]


def _oldest(queues: dict[Rank, _Queue]) -> Permit | None:
    return next((permit for rank in _YIELDING for permit in queues.get(rank, ())), None)


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
