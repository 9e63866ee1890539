"""The fair queue: bounds, turns, no starvation, and counts that stay true."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandboxd.api.admission.fair_queue import Amount, FairQueue

from ..each_case import each_case
from ..effort import examples

PLENTY = Amount(10**6, 10**12, 10**6)


def turns(total: Amount = PLENTY, owner: Amount = PLENTY) -> FairQueue:
    return FairQueue(total, owner)


def one(size: int, tasks: int = 0) -> Amount:
    return Amount(1, size, tasks)


def due(queue: FairQueue) -> list[Any]:
    return list(queue.grant_due())


def test_amount_that_fits_is_granted_at_once() -> None:
    queue = turns(Amount(2, 10))
    for key in "ab":
        queue.enqueue(key, "ann", one(5))
        assert due(queue) == [key]
    assert queue.used == Amount(2, 10)


def test_amount_that_does_not_fit_is_granted_when_there_is_room() -> None:
    queue = turns(Amount(1, 10))
    queue.enqueue("a", "ann", one(1))
    queue.enqueue("b", "ann", one(1))
    assert due(queue) == ["a"] and queue.place("b") == (1, "count")
    queue.release("a")
    assert due(queue) == ["b"] and queue.place("b") is None


def test_flood_of_one_owner_does_not_keep_another_waiting() -> None:
    queue = turns(Amount(1, 1000))
    for number in range(500):
        queue.enqueue(("ann", number), "ann", one(1))
    assert due(queue) == [("ann", 0)]
    queue.enqueue("ben", "ben", one(1))
    assert queue.place("ben") == (2, "count")
    queue.release(("ann", 0))
    assert due(queue) == [("ann", 1)]
    queue.release(("ann", 1))
    assert due(queue) == ["ben"]


def test_owner_at_the_bound_is_passed_over_and_loses_no_turn() -> None:
    queue = turns(Amount(3, 1000), Amount(1, 1000))
    for key in ("a1", "a2", "b1", "b2", "c1"):
        queue.enqueue(key, key[0], one(1))
    assert due(queue) == ["a1", "b1", "c1"]
    assert queue.place("a2") == (1, "owner count")
    queue.release("b1")
    assert due(queue) == ["b2"], "a is at his bound: what b gave back is for b"
    queue.release("b2")
    queue.release("a1")
    assert due(queue) == ["a2"]


def test_large_amount_is_not_starved_by_small_ones() -> None:
    queue = turns(Amount(100, 10))
    for key in range(10):
        queue.grant(key, "ann", one(1))
    queue.enqueue("large", "ben", one(6))
    queue.enqueue("small", "ann", one(1))
    for key in range(6):
        assert due(queue) == []
        assert queue.place("large") == (1, "size")
        queue.release(key)
    assert due(queue) == ["large"]
    assert queue.place("small") == (1, "size")


def test_amount_larger_than_the_total_is_granted_alone() -> None:
    queue = turns(Amount(100, 10), Amount(100, 5))
    queue.enqueue("a", "ann", one(1))
    queue.enqueue("huge", "ben", one(1000))
    queue.enqueue("b", "ann", one(1))
    assert due(queue) == ["a"], "nobody overtakes the huge one"
    queue.release("a")
    assert due(queue) == ["huge"]
    queue.release("huge")
    assert due(queue) == ["b"]


def test_tasks_are_granted_up_to_the_bound_of_all_and_of_one_owner() -> None:
    queue = turns(Amount(100, 100, 10), Amount(100, 100, 6))
    for key in ("a1", "a2", "b1", "b2", "c1"):
        queue.enqueue(key, key[0], one(1, 3))
    assert due(queue) == ["a1", "b1", "c1"]
    assert queue.place("a2") == (1, "tasks") and queue.used.tasks == 9
    queue.release("b1")
    assert due(queue) == ["a2"]
    queue.release("c1")
    queue.enqueue("a3", "a", one(1, 1))
    assert due(queue) == ["b2"], "a is at the bound of one owner"
    assert queue.place("a3") == (1, "owner tasks")


def test_amount_of_more_tasks_than_the_total_waits_and_holds_up_nobody() -> None:
    queue = turns(Amount(100, 100, 10), Amount(100, 100, 6))
    queue.enqueue("huge", "ann", one(1, 11))
    queue.enqueue("b", "ben", one(1, 4))
    assert due(queue) == ["b"], "alone, too, it would take the tasks of the host"
    assert queue.place("huge") == (1, "tasks")
    queue.release("b")
    assert due(queue) == []
    queue.total = Amount(100, 100, 11)
    assert due(queue) == ["huge"], "the host has more tasks now"


def test_large_number_of_tasks_is_not_starved_by_small_ones() -> None:
    queue = turns(Amount(100, 100, 10))
    for key in range(10):
        queue.grant(key, "ann", one(1, 1))
    queue.enqueue("large", "ben", one(1, 6))
    queue.enqueue("small", "ann", one(1, 1))
    for key in range(6):
        assert due(queue) == []
        queue.release(key)
    assert due(queue) == ["large"]


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=20),
    st.integers(1, 10), st.integers(1, 10),
)  # fmt: skip
def test_no_order_of_requests_and_releases_promises_more_tasks_than_there_are(
    requests: list[tuple[str, int]], total: int, own: int
) -> None:
    queue = turns(Amount(100, 100, total), Amount(100, 100, own))
    amounts = {key: one(1, tasks) for key, (_, tasks) in enumerate(requests)}
    for key, amount in amounts.items():
        queue.enqueue(key, requests[key][0], amount)
    served: list[int] = []
    has: list[int] = []
    while granted := due(queue) or has:
        has += [key for key in granted if key not in has]
        served += [key for key in has if key not in served]
        assert queue.used.tasks <= total
        for owner in "abc":
            mine = [key for key in has if requests[key][0] == owner and amounts[key].tasks]
            assert queue.used_by(owner).tasks <= own or len(mine) == 1
        queue.release(has.pop(0))
    blocked = {owner for owner, tasks in requests if tasks > total}
    assert {key for key in amounts if requests[key][0] not in blocked} <= set(served)


def test_amount_of_before_a_restart_counts_whatever_the_bounds_are() -> None:
    queue = turns(Amount(1, 10))
    queue.grant("a", "ann", one(50))
    queue.grant("b", "ann", one(50))
    queue.enqueue("c", "ann", one(1))
    assert due(queue) == []
    queue.release("a")
    assert due(queue) == []
    queue.release("b")
    assert due(queue) == ["c"]


def test_paused_queue_grants_nothing_and_goes_on_as_before() -> None:
    queue = turns()
    queue.paused = True
    queue.enqueue("a", "ann", one(1))
    assert due(queue) == [] and queue.place("a") == (1, "paused")
    queue.paused = False
    assert due(queue) == ["a"]


def test_amount_without_a_count_is_granted_beyond_the_count() -> None:
    queue = turns(Amount(1, 10))
    queue.grant("a", "ann", one(4))
    queue.enqueue("folder", "ann", Amount(0, 6))
    assert due(queue) == ["folder"] and queue.used == Amount(1, 10)
    queue.enqueue("more", "ann", Amount(0, 1))
    assert due(queue) == [] and queue.place("more") == (1, "size")


def test_release_of_an_unknown_key_changes_nothing() -> None:
    queue = turns()
    queue.grant("a", "ann", one(1))
    for key in ("a", "a", "never"):
        queue.release(key)
    assert queue.used == Amount() and queue.used_by("ann") == Amount()


@hypothesis.given(st.lists(st.integers(0, 3), max_size=24))
def test_positions_are_the_order_in_which_keys_are_granted(owners: list[int]) -> None:
    queue = turns(Amount(1, 100))
    queue.grant("first", "somebody", one(1))
    for key, owner in enumerate(owners):
        queue.enqueue(key, str(owner), one(1))
    keys = {}
    for key in range(len(owners)):
        place = queue.place(key)
        assert place is not None
        keys[place[0]] = key
    assert sorted(keys) == list(range(1, len(owners) + 1)), "one position, one key"
    served, last = [], "first"
    for _ in owners:
        queue.release(last)
        served += (now := due(queue))
        last = now[0]
    assert served == [keys[position] for position in sorted(keys)]


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=30),
    st.integers(1, 6), st.integers(1, 15), st.integers(1, 4), st.integers(1, 15),
)  # fmt: skip
def test_every_key_is_granted_in_the_end_and_keys_of_an_owner_in_order(
    requests: list[tuple[int, int]], count: int, size: int, own_count: int, own_size: int
) -> None:
    queue = turns(Amount(count, size), Amount(own_count, own_size))
    for key, (owner, amount) in enumerate(requests):
        queue.enqueue(key, str(owner), one(amount))
    served: list[int] = []
    has: list[int] = []
    while len(served) < len(requests):
        now = due(queue)
        assert now or has, "nobody has anything and nobody gets anything: it stands still"
        served += now
        has += now
        queue.release(has.pop(0))
    for owner in range(5):
        mine = [key for key in served if requests[key][0] == owner]
        assert mine == sorted(mine)


@hypothesis.given(st.integers(2, 5), st.integers(1, 4))
def test_owners_that_always_wait_are_granted_equally_much(owners: int, places: int) -> None:
    queue = turns(Amount(places, 100))
    for owner in range(owners):
        for number in range(40 if owner else 4000):  # one asks for a hundred times as much
            queue.enqueue((owner, number), str(owner), one(1))
    had: Counter[int] = Counter()
    has: list[Any] = []
    for _ in range(30):
        now = due(queue)
        had.update(owner for owner, _ in now)
        has += now
        queue.release(has.pop(0))
    assert max(had.values()) - min(had[owner] for owner in range(owners)) <= 1


class Played(RuleBasedStateMachine):
    """Asking, leaving, pausing and other bounds, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = turns(Amount(3, 10, 10), Amount(2, 7, 6))
        self.keys = 0
        self.has: dict[int, tuple[str, Amount]] = {}
        self.waits: dict[int, tuple[str, Amount]] = {}

    def settle(self) -> None:
        for key in due(self.queue):
            assert isinstance(key, int)
            self.has[key] = self.waits.pop(key)
            owner, granted = self.has[key]
            for mine, bound in ((None, self.queue.total), (owner, self.queue.owner)):
                amounts = [amount for o, amount in self.has.values() if mine in (None, o)]
                sizes = [amount.size for amount in amounts]
                tasks = sum(amount.tasks for amount in amounts)
                assert len(sizes) <= bound.count
                assert sum(sizes) <= bound.size or sum(sizes) == granted.size
                assert tasks <= bound.tasks or (mine and tasks == granted.tasks)

    @rule(owner=st.sampled_from("abc"), size=st.integers(0, 12), tasks=st.integers(0, 12))
    def ask(self, owner: str, size: int, tasks: int) -> None:
        self.keys += 1
        amount = one(size, tasks)
        self.waits[self.keys] = owner, amount
        self.queue.enqueue(self.keys, owner, amount)
        self.settle()

    @precondition(lambda self: self.has or self.waits)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([*self.has, *self.waits]))
        self.has.pop(key, None)
        self.waits.pop(key, None)
        self.queue.release(key)
        self.settle()

    @rule(count=st.integers(1, 4), size=st.integers(0, 12), tasks=st.integers(0, 14))
    def rebound(self, count: int, size: int, tasks: int) -> None:
        self.queue.total = Amount(count, size, tasks)
        self.settle()

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.queue.paused = paused
        self.settle()

    @invariant()
    def counts_are_true(self) -> None:
        used = sum((amount for _, amount in self.has.values()), Amount())
        assert self.queue.used == used
        assert self.queue.queued == len(self.waits)
        assert all((self.queue.place(key) is None) == (key in self.has) for key in self.has)
        assert all(self.queue.place(key) is not None for key in self.waits)

    @invariant()
    def nobody_waits_while_nobody_has_anything(self) -> None:
        heads = dict(reversed(self.waits.values()))
        fit = [amount for amount in heads.values() if amount.tasks <= self.queue.total.tasks]
        assert self.has or self.queue.paused or not fit


TestPlayed = Played.TestCase
TestPlayed.settings = settings(max_examples=examples(60), stateful_step_count=40)


@each_case(
    ("used", "more", "bound", "short"),
    [
        (Amount(0, 0), 5, Amount(1, 5), ""),
        (Amount(0, 0), 6, Amount(1, 5), ""),
        (Amount(1, 0), 0, Amount(1, 5), "count"),
        (Amount(1, 1), 5, Amount(2, 5), "size"),
        (Amount(1, 9), 0, Amount(2, 5), "size"),
        (Amount(0, 0), 5, Amount(1, 0), ""),
        (Amount(0, 0, 1), 0, Amount(1, 5, 0), "tasks"),
        (Amount(0, 0, 2), 0, Amount(1, 5, 2), ""),
    ],
)
def test_exceeded_names_the_part_of_the_bound(
    used: Amount, more: int, bound: Amount, short: str
) -> None:
    assert used.exceeded(one(more), bound) == short
