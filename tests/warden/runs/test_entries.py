"""The entries that wait: which of them go when more are warm than may be."""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Iterator

import pytest

from sandboxd.host import memory
from sandboxd.jail.cgroup import Group
from sandboxd.warden.runs import entries
from sandboxd.warden.runs.entries import Entries, warm_max
from sandboxd.warden.runs.jail_entry import JailEntry, Shim, Tenancy
from sandboxd.warden.slots.slots import Slot
from sandboxd.warden.uid_lease import UidLease
from sandboxd.wire import messages


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def tenancy(number: int) -> Tenancy:
    slot = Slot(number, number, "/nowhere", f"session {number}", UidLease(number, -1))
    return Tenancy(slot, Group({}), None, "c", ())


class Claimed:
    """Entries whose runs are not over; `rest` is the end of a run."""

    def __init__(self, tenancies: list[Tenancy], stack: contextlib.ExitStack) -> None:
        self.selector = stack.enter_context(selectors.DefaultSelector())
        self.entries = Entries(self.selector, lambda: None, lambda *_: None, lambda _: None)  # type: ignore[arg-type,return-value]  # no spawner
        self.entries.warm_s = 60.0
        self.claimed: list[JailEntry] = []
        for each in tenancies:
            entry = JailEntry()
            stack.callback(entry.end.close)
            stack.callback(entry.sock.close)
            entry.become("ordered")
            entry.become("claimed")
            entry.shim = Shim(os.getpid())
            self.entries._keep(entry, each, stays=True)
            self.claimed.append(entry)

    def rest(self, number: int) -> None:
        messages.send(self.claimed[number].end, {"warm": 1})
        for key, _ in self.selector.select(0):
            key.data()


def test_sessions_that_take_turns_find_their_jails_although_there_are_too_many_of_them(
    stack: contextlib.ExitStack,
) -> None:
    """If the oldest one went, none of them would find its own."""
    tenancies = [tenancy(number) for number in range(3)]
    runs = Claimed(tenancies, stack)
    runs.entries.warm_max = 2
    for number in range(3):
        runs.rest(number)
    assert [one.state for one in runs.claimed] == ["warm", "warm", "gone"]
    assert runs.entries.warm(tenancies[0]) is runs.claimed[0]
    assert runs.entries.warm(tenancies[1]) is runs.claimed[1]
    assert runs.entries.warm(tenancies[2]) is None


def test_next_run_waits_a_moment_for_the_jail_of_the_run_before(
    stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client learns of the end of a run before its shim has cleared the jail."""
    tenancies = [tenancy(number) for number in range(3)]
    runs = Claimed(tenancies, stack)
    messages.send(runs.claimed[0].end, {"warm": 1})
    assert runs.entries.warm(tenancies[0]) is runs.claimed[0]
    runs.claimed[1].end.close()  # it has ended
    assert runs.entries.warm(tenancies[1]) is None
    monkeypatch.setattr(entries, "SOON_S", 0.0)
    assert runs.entries.warm(tenancies[2]) is None
    assert [one.state for one in runs.claimed] == ["warm", "gone", "claimed"]


def test_warm_jails_of_a_small_host_leave_memory_for_runs() -> None:
    assert [warm_max(size << 20) for size in (16, 1024, 2048, 4096, 65536)] == [1, 16, 32, 64, 64]


def test_warm_jails_go_while_the_host_is_short_of_memory(
    stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = 1 << 60
    monkeypatch.setattr(memory, "available", lambda: available)
    monkeypatch.setattr(entries, "LOOK_S", 0.0)
    runs = Claimed([tenancy(number) for number in range(4)], stack)
    runs.rest(0)
    runs.rest(1)
    runs.entries.maintain()
    assert [one.state for one in runs.claimed[:2]] == ["warm", "warm"]
    available = 0
    runs.rest(2)
    assert runs.claimed[2].state == "gone", "it does not become warm"
    runs.entries.maintain()
    assert [one.state for one in runs.claimed] == ["gone", "gone", "gone", "claimed"]
    available = 1 << 60
    runs.rest(3)
    assert runs.claimed[3].state == "warm"


def test_memory_is_looked_at_only_while_jails_are_warm(
    stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1 << 60)
    runs = Claimed([tenancy(1)], stack)
    assert runs.entries.due_in() is None
    runs.rest(0)
    due_s = runs.entries.due_in()
    assert due_s is not None and due_s <= entries.LOOK_S < runs.entries.warm_s


def test_no_run_begins_in_a_jail_that_is_older_than_a_minute(stack: contextlib.ExitStack) -> None:
    """A session that is never at rest would not see what the host installs, for ever."""
    tenancies = [tenancy(number) for number in range(2)]
    runs = Claimed(tenancies, stack)
    for number in range(2):
        runs.rest(number)
    old, young = runs.claimed
    old.begun -= entries.AGE_S
    assert runs.entries.warm(tenancies[0]) is None
    assert runs.entries.warm(tenancies[1]) is young
    assert [one.state for one in runs.claimed] == ["gone", "warm"]


def test_loop_looks_at_no_warm_jail_before_one_has_to_go(
    stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Claimed([tenancy(number) for number in range(20)], stack)
    for number in range(20):
        runs.rest(number)
    looked: list[JailEntry] = []

    def due_now(_: Entries, entry: JailEntry) -> float:
        looked.append(entry)
        return 0.0

    monkeypatch.setattr(Entries, "_warm_until", due_now)
    runs.entries.maintain()
    assert runs.entries.due_in() is not None and not looked
    runs.entries._warm_due = 0.0
    runs.entries.maintain()
    assert len(looked) == 20 and all(one.state == "gone" for one in runs.claimed)
    assert runs.entries.due_in() is None


def test_warm_jail_goes_when_it_is_a_minute_old(stack: contextlib.ExitStack) -> None:
    runs = Claimed([tenancy(1), tenancy(2)], stack)
    runs.claimed[1].begun -= entries.AGE_S
    runs.rest(0)
    runs.entries.maintain()
    assert [one.state for one in runs.claimed] == ["warm", "claimed"]
    runs.rest(1)
    assert runs.entries.due_in() == 0
    runs.entries.maintain()
    assert [one.state for one in runs.claimed] == ["warm", "gone"]
