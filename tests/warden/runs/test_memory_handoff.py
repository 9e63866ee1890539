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
        self.handoff = MemoryHandoff(lambda: self.slots)

    def lease(self, *folders: str, workspace: tuple[int, str] | None = None) -> Slot:
        """A slot with these folders, and a workspace: its user, and its path."""
        number = next(self._numbers)
        slot = Slot(number, 1_000_000 + number, "/nowhere", "session", UidLease(number, -1))
        slot.attachments = tuple(Attachment(folder, folder) for folder in folders)
        if workspace:
            uid, path = workspace
            slot.workspace = Workspace(path, "", uid, uid, "")
        self.slots.append(slot)
        return slot

    def release(self, slot: Slot) -> None:
        self.slots.remove(slot)

    def may_go(self, slot: Slot, *others: Slot, memory: int = 0) -> bool:
        """A run of `slot` that has left `memory` is over, while runs of the others go on."""
        workers = [Worker(0, other, 1, group()) for other in others]
        return self.handoff.may_go(Worker(0, slot, 1, group(memory)), workers)


def group(memory: int = 0) -> Group:
    return mock.Mock(spec=Group, **{"holds_memory.return_value": memory > HELD_MAX})


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


def test_session_with_a_workspace_of_the_same_user_holds_memory_and_no_other_does() -> None:
    host = Host()
    first = host.lease(workspace=(1000, "/srv/builds/one"))
    inside = host.lease(workspace=(1000, "/srv/builds/one/part"))
    other = host.lease(workspace=(1001, "/srv/builds/other"))
    assert not host.may_go(first, inside, memory=HELD)
    assert host.may_go(first, other, host.lease(), memory=HELD)


def test_memory_stays_held_through_a_workspace_and_a_folder_of_a_session_that_is_gone() -> None:
    host = Host()
    first, last = host.lease(workspace=(1000, "/srv/one")), host.lease("a")
    between = host.lease("a", workspace=(1000, "/srv/one"))
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
    builds = [Worker(0, host.lease(workspace=(1000, "/srv/one")), 1, group())]
    assert host.handoff.meets_others(host.lease(workspace=(1000, "/srv/one")), False, builds)
    assert not host.handoff.meets_others(host.lease(workspace=(1001, "/srv/two")), False, builds)
