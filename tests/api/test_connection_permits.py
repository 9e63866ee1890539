"""The rule of permits against a slow and plain second one: every short sequence of events, and long
ones at random."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from sandboxd.api.http.connection_permits import (
    Arrival,
    Permit,
    PermitBounds,
    Permits,
    Rank,
    source_of,
)

from ..each_case import each_case

SOURCES, OWNERS = ("a", "b", ""), ("x", "y")

Event = tuple[str, int, str]
"""The name of the event, the number of a connection, and a source or an owner."""


@dataclass
class Plain:
    """The rule as one would write it without regard to time: a list, the oldest first."""

    bounds: PermitBounds
    permits: list[Permit] = field(default_factory=list)

    def arrive(self, source: str) -> Permit | int | None:
        """The permit that has to go, None, or the status of a refusal."""
        same = [permit for permit in self.permits if permit.source == source]
        if source and len(same) >= self.bounds.source:
            return self._oldest(same) or 429
        if len(self.permits) >= self.bounds.permits:
            return self._oldest(self.permits) or 503
        return None

    @staticmethod
    def _oldest(permits: list[Permit]) -> Permit | None:
        for rank in (Rank.SILENT, Rank.STRANGER):
            for permit in permits:
                if permit.rank is rank:
                    return permit
        return None


class Trial:
    """Both rules side by side."""

    def __init__(self, bounds: PermitBounds) -> None:
        self._bounds = bounds
        self._permits, self._plain = Permits(), Plain(bounds)
        self._spoke: list[Permit] = []

    def do(self, event: Event) -> None:
        name, number, text = event
        if name == "arrive":
            self._arrive(text)
        elif number < len(self._plain.permits):
            self._act(name, self._plain.permits[number], text)
        self._check()

    def _arrive(self, source: str) -> None:
        expected = self._by_the_order_of_speaking(source)
        arrival = self._permits.arrive(source, self._bounds)
        if isinstance(expected, int):
            assert arrival == Arrival(status=expected)
            return
        assert arrival.permit and arrival.replaced is expected and not arrival.status
        if expected:
            assert expected.rank is not Rank.KNOWN
            self._plain.permits.remove(expected)
        self._plain.permits.append(arrival.permit)

    def _by_the_order_of_speaking(self, source: str) -> Permit | int | None:
        """Strangers are as old as their first request."""
        strangers = [permit for permit in self._spoke if permit.rank is Rank.STRANGER]
        silent = [permit for permit in self._plain.permits if permit.rank is Rank.SILENT]
        known = [permit for permit in self._plain.permits if permit.rank is Rank.KNOWN]
        alive = [permit for permit in strangers if permit in self._plain.permits]
        return Plain(self._bounds, silent + alive + known).arrive(source)

    def _act(self, name: str, permit: Permit, owner: str) -> None:
        if name == "speak":
            if permit.rank is Rank.SILENT:
                self._spoke.append(permit)
            self._permits.speak(permit)
            assert permit.rank is not Rank.SILENT
        elif name == "know":
            mine = sum(other.owner == owner for other in self._plain.permits)
            before = permit.rank
            self._permits.mark_known(permit, owner, self._bounds)
            if before is not Rank.KNOWN:
                assert (permit.rank is Rank.KNOWN) == (mine < self._bounds.owner)
        else:
            self._permits.leave(permit)
            self._plain.permits.remove(permit)

    def _check(self) -> None:
        permits = self._plain.permits
        assert len(self._permits) == len(permits) <= self._bounds.permits
        for source in ("a", "b"):
            assert sum(permit.source == source for permit in permits) <= self._bounds.source
        for owner in OWNERS:
            assert sum(permit.owner == owner for permit in permits) <= self._bounds.owner


def events(permits: int) -> list[Event]:
    numbers = range(permits)
    return [
        *(("arrive", 0, source) for source in SOURCES),
        *(("speak", number, "") for number in numbers),
        *(("know", number, owner) for number in numbers for owner in OWNERS),
        *(("leave", number, "") for number in numbers),
    ]


def sequences(length: int) -> Iterator[Sequence[Event]]:
    return itertools.product(events(2), repeat=length)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [PermitBounds(2, 1, 1), PermitBounds(2, 2, 2)], ids=str)
def test_every_short_sequence_of_events_gives_places_as_the_rule_says(bounds: PermitBounds) -> None:
    for sequence in sequences(5):
        trial = Trial(bounds)
        for event in sequence:
            trial.do(event)


@each_case("seed", range(10))
def test_long_sequences_of_events_give_places_as_the_rule_says(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        trial = Trial(
            PermitBounds(chance.randint(1, 5), chance.randint(1, 4), chance.randint(1, 3))
        )
        for event in chance.choices(events(5), k=100):
            trial.do(event)


def test_flood_of_silent_connections_from_many_addresses_takes_no_place_of_a_known_one() -> None:
    permits, bounds = Permits(), PermitBounds(10, 4, 5)
    known = []
    for number in range(3):
        permit = permits.arrive(f"user-{number}", bounds).permit
        assert permit
        permits.mark_known(permit, f"owner-{number}", bounds)
        known.append(permit)
    for number in range(1000):
        arrival = permits.arrive(f"attacker-{number % 100}", bounds)
        assert arrival.permit and arrival.replaced not in known
    newcomer = permits.arrive("user-4", bounds)
    assert newcomer.permit and newcomer.replaced, "a silent one has to go"


def test_owner_with_many_connections_keeps_only_its_share_of_places() -> None:
    permits, bounds = Permits(), PermitBounds(4, 4, 2)
    for _ in range(4):
        permit = permits.arrive("a", bounds).permit
        assert permit
        permits.speak(permit)
        permits.mark_known(permit, "greedy", bounds)
    for number in range(2):
        arrival = permits.arrive(f"other-{number}", bounds)
        assert arrival.permit and arrival.replaced and arrival.replaced.source == "a"
        permits.mark_known(arrival.permit, f"owner-{number}", bounds)
    assert permits.arrive("b", bounds) == Arrival(status=503), "the rest keep their permits"


@each_case(
    ("address", "source"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_source_of_an_address_is_what_one_subscriber_has(address: str, source: str) -> None:
    assert source_of(address) == source
