"""Memory that another run still holds: the sessions that can have passed it on, by place."""

from __future__ import annotations

import itertools
from unittest import mock

import pytest

from sandboxd.jail.cgroup import HELD_MAX, Group
from sandboxd.model import Attachment, Workspace
from sandboxd.warden.runs.memory_handoff import MemoryHandoff
from sandboxd.warden.runs.worker import Worker
from sandboxd.warden.slots.slots import Slot
from sandboxd.warden.uid_lease import UidLease


class Host:
    """The slots of a host without processes, and the rule for their memory."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.slots: list[Slot] = []
        self.stored: dict[int, int] = {}
        self.handoff = MemoryHandoff(
            lambda: self.slots, lambda slot: self.stored.get(slot.number, 0)
        )

    def lease(
        self, *folders: str, workspace: str = "", uid: int = 1000, owner: str | None = None
    ) -> Slot:
        """A slot with these folders, and a workspace by its path and user; of an owner of its own,
        if none is named."""
        number = next(self._numbers)
        slot = Slot(number, 1_000_000 + number, "/nowhere", "session", UidLease(number, -1))
        slot.owner = owner or f"owner {number}"
        slot.attachments = tuple(Attachment(folder, folder) for folder in folders)
        if workspace:
            slot.workspace = Workspace(workspace, "", uid, uid, "")
        self.slots.append(slot)
        return slot

    def release(self, slot: Slot) -> None:
        self.slots.remove(slot)

    def may_go(self, slot: Slot, *others: Slot, memory: int = 0) -> bool:
        """A run of `slot` that has left `memory` is over, while runs of the others go on."""
        workers = [Worker(0, other, 1, group()) for other in others]
        return self.handoff.may_go(Worker(0, slot, 1, group(memory)), workers)


def group(memory: int = 0) -> Group:
    def holds_memory(beside: int = 0) -> bool:
        return memory > HELD_MAX + beside

    return mock.Mock(spec=Group, **{"holds_memory.side_effect": holds_memory})


HELD = HELD_MAX + 1


def test_folders_that_no_slot_has_any_more_are_forgotten() -> None:
    """A tenant makes and removes folders for ever, and sees each one together with that before."""
    host = Host()
    before = host.lease("0", "1")
    for number in range(1, 20):
        slot = host.lease(f"{number}", f"{number + 1}")
        assert host.may_go(slot, before)
        host.release(before)
        before = slot
    families = host.handoff._families
    assert len(families) <= 3 and all(len(family) <= 3 for family in families.values())
    host.release(before)
    assert host.may_go(host.lease())
    assert not families


def test_memory_stays_held_through_a_session_and_a_folder_that_are_gone() -> None:
    host = Host()
    first, between, last = host.lease("a"), host.lease("a", "b"), host.lease("b", "c")
    assert host.may_go(between, first, last)
    host.release(between)
    end = host.lease("c")
    assert host.may_go(last, first, end)
    host.release(last)  # nobody has the folder b any more
    assert not host.may_go(first, end, memory=HELD)


@pytest.mark.parametrize("related", ["one", "one/part", "one/a/../part/", "", "./one"])
def test_session_whose_workspace_is_the_same_or_inside_holds_memory(related: str) -> None:
    host = Host()
    first = host.lease(workspace="/srv/builds/one")
    other = host.lease(workspace=f"/srv/builds/{related}")
    assert not host.may_go(first, other, memory=HELD)
    assert not host.may_go(other, first, memory=HELD)


@pytest.mark.parametrize("apart", ["two", "one-more", "on", "two/one"])
def test_run_with_another_checkout_of_the_same_user_holds_no_memory(apart: str) -> None:
    host = Host()
    first = host.lease(workspace="/srv/builds/one", owner="ci")
    other = host.lease(workspace=f"/srv/builds/{apart}", owner="ci")
    assert host.may_go(first, other, host.lease(), memory=HELD)


def test_run_in_a_workspace_of_another_user_inside_of_it_holds_no_memory() -> None:
    """Else a user could have the runs of the other one ended."""
    host = Host()
    first = host.lease(workspace="/srv/builds")
    assert host.may_go(first, host.lease(workspace="/srv/builds/one", uid=1001), memory=HELD)


def test_directory_around_workspaces_is_remembered_while_one_of_them_is_used() -> None:
    """Its session has linked a socket from one into another, which a later session gets."""
    host = Host()
    one, around = host.lease(workspace="/srv/builds/one"), host.lease(workspace="/srv/builds")
    assert host.may_go(around, one)
    host.release(around)
    later = host.lease(workspace="/srv/builds/two")
    assert not host.may_go(later, one, memory=HELD)
    for slot in (one, later):
        host.release(slot)
    assert host.may_go(host.lease()) and not host.handoff._families


def test_checkouts_are_one_place_once_a_session_has_seen_the_directory_above_them() -> None:
    host = Host()
    one, two = (host.lease(workspace=f"/srv/builds/{name}") for name in ("one", "two"))
    above = host.lease(workspace="/srv/builds")
    assert host.may_go(above, one, two)
    host.release(above)
    assert not host.may_go(one, two, memory=HELD)


def test_files_that_a_workspace_in_memory_has_are_not_taken_for_memory_of_others() -> None:
    host = Host()
    first, other = (host.lease(workspace="/run/builds") for _ in range(2))
    host.stored[first.number] = 64 << 20
    assert host.may_go(first, other, memory=64 << 20)
    assert not host.may_go(first, other, memory=(64 << 20) + HELD)


def test_memory_stays_held_through_a_workspace_and_a_folder_of_a_session_that_is_gone() -> None:
    host = Host()
    first, last = host.lease(workspace="/srv/one"), host.lease("a")
    between = host.lease("a", workspace="/srv/one")
    assert host.may_go(between, first, last)
    host.release(between)
    assert not host.may_go(first, last, memory=HELD)


@pytest.mark.parametrize("folders", [("b",), ()])
def test_run_that_shares_no_folder_holds_no_memory(folders: tuple[str, ...]) -> None:
    host = Host()
    assert host.may_go(host.lease("a"), host.lease(*folders), memory=HELD)


def test_run_meets_the_terminals_of_its_session_and_not_the_run_before_it() -> None:
    host = Host()
    slot, other = host.lease(), host.lease()
    before, terminal = Worker(0, slot, 1, group()), Worker(0, slot, 2, group(), terminal=True)
    warm, apart = Worker(0, slot, None, group()), Worker(0, other, 1, group(), terminal=True)
    assert not host.handoff.meets_others(slot, False, [before, warm, apart])
    assert host.handoff.meets_others(slot, False, [before, terminal])
    assert host.handoff.meets_others(slot, True, [before])


def test_run_meets_runs_of_sessions_that_it_reaches_through_a_third_one_that_is_gone() -> None:
    host = Host()
    first, last, between = host.lease("a"), host.lease("b"), host.lease("a", "b")
    goes_on = [Worker(0, last, 1, group())]
    assert host.handoff.meets_others(between, False, goes_on)
    host.release(between)
    assert host.handoff.meets_others(first, False, goes_on)
    assert not host.handoff.meets_others(host.lease("c"), False, goes_on)
    builds = [Worker(0, host.lease(workspace="/srv/one"), 1, group())]
    assert host.handoff.meets_others(host.lease(workspace="/srv/one"), False, builds)
    assert not host.handoff.meets_others(host.lease(workspace="/srv/two"), False, builds)


def test_run_meets_runs_of_its_owner_that_a_later_session_may_see_together_with_it() -> None:
    host = Host()
    first = Worker(0, host.lease("a", owner="o"), 1, group())
    warm = Worker(0, host.lease("a", owner="w"), None, group())
    plain = Worker(0, host.lease(owner="p"), 1, group())
    workers = [first, warm, plain]
    assert host.handoff.meets_others(host.lease("b", owner="o"), False, workers)
    assert host.handoff.meets_others(host.lease(workspace="/srv/b", owner="o"), False, workers)
    assert not host.handoff.meets_others(host.lease(owner="o"), False, workers), "has no place"
    for owner in ("w", "p", "other"):
        assert not host.handoff.meets_others(host.lease("b", owner=owner), False, workers)
    assert first.slot and not host.handoff.meets_others(first.slot, False, workers)
