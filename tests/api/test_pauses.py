"""The pauses of admission: the words for clients, and several pauses at one time."""

from __future__ import annotations

import itertools

from sandboxd.api.admission.admission import Bounds, Reservations
from sandboxd.api.admission.fair_queue import Amount
from sandboxd.api.admission.pauses import WORDS, Pauses
from sandboxd.errors import Draining


def test_only_a_drain_is_refused_as_one() -> None:
    """A client of a daemon that ends comes back at once: the next daemon may be there already."""
    kinds = {why: type(Pauses([why]).refusal).__name__ for why in WORDS}
    assert kinds == {"end": "Unavailable", "drain": "Draining", "restore": "Unavailable"}
    assert Pauses().refusal is None
    assert not isinstance(Pauses(["drain", "end"]).refusal, Draining), "the end comes first"


def test_nothing_is_granted_before_the_last_pause_is_over() -> None:
    for order in itertools.permutations(WORDS):
        here = Reservations("run", "memory", Bounds(Amount(1, 1), Amount(1, 1)))
        for why in WORDS:
            here.pause(why)
        for why in order:
            assert here.queue.paused
            here.resume(why)
        assert not here.queue.paused
