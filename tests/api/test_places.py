"""The rule of places against a slow and plain second one: every short sequence of events, and long
ones at random."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from sandboxd.api.http.places import Arrival, Place, PlaceBounds, Places, Rank, source_of

from ..each_case import each_case

SOURCES, OWNERS = ("a", "b", ""), ("x", "y")

Event = tuple[str, int, str]
"""The name of the event, the number of a connection, and a source or an owner."""


@dataclass
class Plain:
    """The rule as one would write it without regard to time: a list, the oldest first."""

    bounds: PlaceBounds
    places: list[Place] = field(default_factory=list)

    def arrive(self, source: str) -> Place | int | None:
        """The place that has to go, None, or the status of a refusal."""
        same = [place for place in self.places if place.source == source]
        if source and len(same) >= self.bounds.source:
            return self._oldest(same) or 429
        if len(self.places) >= self.bounds.places:
            return self._oldest(self.places) or 503
        return None

    @staticmethod
    def _oldest(places: list[Place]) -> Place | None:
        for rank in (Rank.SILENT, Rank.STRANGER):
            for place in places:
                if place.rank is rank:
                    return place
        return None


class Trial:
    """Both rules side by side."""

    def __init__(self, bounds: PlaceBounds) -> None:
        self._bounds = bounds
        self._places, self._plain = Places(), Plain(bounds)
        self._spoke: list[Place] = []

    def do(self, event: Event) -> None:
        name, number, text = event
        if name == "arrive":
            self._arrive(text)
        elif number < len(self._plain.places):
            self._act(name, self._plain.places[number], text)
        self._check()

    def _arrive(self, source: str) -> None:
        expected = self._by_the_order_of_speaking(source)
        arrival = self._places.arrive(source, self._bounds)
        if isinstance(expected, int):
            assert arrival == Arrival(status=expected)
            return
        assert arrival.place and arrival.replaced is expected and not arrival.status
        if expected:
            assert expected.rank is not Rank.KNOWN
            self._plain.places.remove(expected)
        self._plain.places.append(arrival.place)

    def _by_the_order_of_speaking(self, source: str) -> Place | int | None:
        """Strangers are as old as their first request."""
        strangers = [place for place in self._spoke if place.rank is Rank.STRANGER]
        silent = [place for place in self._plain.places if place.rank is Rank.SILENT]
        known = [place for place in self._plain.places if place.rank is Rank.KNOWN]
        alive = [place for place in strangers if place in self._plain.places]
        return Plain(self._bounds, silent + alive + known).arrive(source)

    def _act(self, name: str, place: Place, owner: str) -> None:
        if name == "speak":
            if place.rank is Rank.SILENT:
                self._spoke.append(place)
            self._places.speak(place)
            assert place.rank is not Rank.SILENT
        elif name == "know":
            mine = sum(other.owner == owner for other in self._plain.places)
            before = place.rank
            self._places.mark_known(place, owner, self._bounds)
            if before is not Rank.KNOWN:
                assert (place.rank is Rank.KNOWN) == (mine < self._bounds.owner)
        else:
            self._places.leave(place)
            self._plain.places.remove(place)

    def _check(self) -> None:
        places = self._plain.places
        assert len(self._places) == len(places) <= self._bounds.places
        for source in ("a", "b"):
            assert sum(place.source == source for place in places) <= self._bounds.source
        for owner in OWNERS:
            assert sum(place.owner == owner for place in places) <= self._bounds.owner


def events(places: int) -> list[Event]:
    numbers = range(places)
    return [
        *(("arrive", 0, source) for source in SOURCES),
        *(("speak", number, "") for number in numbers),
        *(("know", number, owner) for number in numbers for owner in OWNERS),
        *(("leave", number, "") for number in numbers),
    ]


def sequences(length: int) -> Iterator[Sequence[Event]]:
    return itertools.product(events(2), repeat=length)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [PlaceBounds(2, 1, 1), PlaceBounds(2, 2, 2)], ids=str)
def test_every_short_sequence_of_events_gives_places_as_the_rule_says(bounds: PlaceBounds) -> None:
    for sequence in sequences(5):
        trial = Trial(bounds)
        for event in sequence:
            trial.do(event)


@each_case("seed", range(10))
def test_long_sequences_of_events_give_places_as_the_rule_says(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        trial = Trial(PlaceBounds(chance.randint(1, 5), chance.randint(1, 4), chance.randint(1, 3)))
        for event in chance.choices(events(5), k=100):
            trial.do(event)


def test_flood_of_silent_connections_from_many_addresses_takes_no_place_of_a_known_one() -> None:
    places, bounds = Places(), PlaceBounds(10, 4, 5)
    known = []
    for number in range(3):
        place = places.arrive(f"user-{number}", bounds).place
        assert place
        places.mark_known(place, f"owner-{number}", bounds)
        known.append(place)
    for number in range(1000):
        arrival = places.arrive(f"attacker-{number % 100}", bounds)
        assert arrival.place and arrival.replaced not in known
    newcomer = places.arrive("user-4", bounds)
    assert newcomer.place and newcomer.replaced, "a silent one has to go"


def test_owner_with_many_connections_keeps_only_its_share_of_places() -> None:
    places, bounds = Places(), PlaceBounds(4, 4, 2)
    for _ in range(4):
        place = places.arrive("a", bounds).place
        assert place
        places.speak(place)
        places.mark_known(place, "greedy", bounds)
    for number in range(2):
        arrival = places.arrive(f"other-{number}", bounds)
        assert arrival.place and arrival.replaced and arrival.replaced.source == "a"
        places.mark_known(arrival.place, f"owner-{number}", bounds)
    assert places.arrive("b", bounds) == Arrival(status=503), "the rest keep their places"


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
