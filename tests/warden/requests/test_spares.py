"""Spares: scratches that are made ahead serve one session each, and belong to none before."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config.settings import ScratchConfig
from sandboxd.errors import Invalid
from sandboxd.host.free_space import FreeSpace
from sandboxd.jail import syscalls
from sandboxd.warden.leaks.rule import SlotDirectory, Survey, leaks
from sandboxd.warden.leaks.scan import survey
from sandboxd.warden.requests import spares as spares_module
from sandboxd.warden.slots.slots import NO_NAME, Slot

from ...sandbox import TEST_UIDS, BareWarden
from .test_provisioning import Work

pytestmark = pytest.mark.usefixtures("own_mounts")

SHAPE = ScratchConfig(size=64 << 20, inodes=4096, spares=2)
FIRST_UID = TEST_UIDS + 150  # apart from the slots of the warden that other tests share


@pytest.fixture
def work() -> Iterator[Work]:
    """The loop of a warden with two spares."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-spares-") as state_dir:
        warden = BareWarden(
            state_dir,
            slots={"first_uid": FIRST_UID, "count": 32},
            scratch={"size": SHAPE.size, "inodes": SHAPE.inodes, "spares": SHAPE.spares},
        )
        requests = Work(warden)
        warden.provisioning.prove()
        warden.jobs.finish()
        yield requests
        warden.spares.close()
        for slot in list(warden.resources.slots.leased.values()):
            warden.teardown.begin(slot, lambda _: None)
        warden.jobs.finish()
        warden.resources.slots.close()
        warden.resources.host_files.remove()
        warden.resources.hierarchy.remove()
        for end in (requests.ours, requests.theirs):
            end.close()


def ready(work: Work) -> list[Slot]:
    """The spares that can be claimed."""
    return [slot for slot in work.warden.resources.slots.spares.values() if slot.ready]


def claim(work: Work) -> Slot:
    """A session of the default size."""
    number = work.begin(7, size=SHAPE.size, inodes=SHAPE.inodes)
    assert number is not None
    return work.warden.resources.slots.leased[number]


def names(work: Work) -> list[str]:
    """The names in the directories of all slots."""
    state = Path(work.warden.resources.config.state_dir)
    return [path.read_text() for path in sorted(state.glob("slots/*/session"))]


def test_spare_is_mounted_and_owned_and_has_no_session(work: Work) -> None:
    spares = ready(work)
    assert len(spares) == SHAPE.spares and names(work) == [NO_NAME] * SHAPE.spares
    for slot in spares:
        assert os.path.ismount(slot.scratch)
        assert os.stat(f"{slot.scratch}/work").st_uid == slot.uid
        with pytest.raises(Invalid, match="not leased"):
            work.warden.resources.leased(slot.number, NO_NAME)
        with pytest.raises(Invalid, match="not leased"):
            work.warden.resources.leased(slot.number, "")


def test_creation_of_the_default_size_claims_a_spare_and_does_no_job(work: Work) -> None:
    spares = ready(work)
    slot = claim(work)
    assert slot in spares and slot.ready and slot.session in names(work)
    assert os.path.getsize(f"{slot.path}/session") == len(NO_NAME)
    assert work.warden.resources.leased(slot.number, slot.session) is slot
    work.warden.jobs.finish()
    assert len(ready(work)) == SHAPE.spares, "the next one is made"


def test_no_two_sessions_get_one_spare(work: Work) -> None:
    slots = [claim(work) for _ in range(2 * SHAPE.spares)]
    work.warden.jobs.finish()
    assert len({slot.number for slot in slots}) == len(slots)
    assert len({os.stat(f"{slot.scratch}/work").st_dev for slot in slots}) == len(slots)


@pytest.mark.parametrize("changes", [{"size": 80 << 20}, {"inodes": 2048}])
def test_creation_of_another_size_makes_its_own_scratch(
    work: Work, changes: dict[str, int]
) -> None:
    spares = ready(work)
    number = work.begin(7, **({"size": SHAPE.size, "inodes": SHAPE.inodes} | changes))
    assert number is not None and number not in [slot.number for slot in spares]
    assert ready(work) == spares
    work.warden.jobs.finish()


def test_spare_is_no_leak_and_a_process_in_one_is(work: Work) -> None:
    expected = work.warden.workers.expected()
    state = work.warden.resources.config.state_dir
    uids = range(FIRST_UID, FIRST_UID + 32)
    assert list(leaks(expected, survey(state, uids, {}))) == []
    slot = ready(work)[0]
    directory = SlotDirectory(slot.number, "", 100)
    assert list(leaks(replace(expected, leases={}), Survey(directories=[directory])))


def test_spares_of_another_size_are_discarded_at_a_reload(work: Work) -> None:
    before, config = ready(work), work.warden.resources.config
    work.warden.resources.config = replace(config, scratch=replace(config.scratch, size=80 << 20))
    work.warden.spares.renew()
    assert not set(map(id, before)) & set(map(id, ready(work)))
    work.warden.jobs.finish()
    assert not any(
        os.path.ismount(slot.scratch)
        for slot in before
        if slot.path not in [one.path for one in ready(work)]
    )
    for slot in ready(work):
        assert os.path.getsize(f"{slot.path}/image") == 80 << 20


def test_no_spare_is_made_with_0(work: Work) -> None:
    config = work.warden.resources.config
    work.warden.resources.config = replace(config, scratch=replace(config.scratch, spares=0))
    work.warden.spares.renew()
    work.warden.jobs.finish()
    assert ready(work) == [] and names(work) == []


def test_spares_go_while_the_disk_is_full_and_come_back(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(FreeSpace, "at", classmethod(lambda cls, _: cls(1 << 20, None)))
        work.warden.spares.renew()
        work.warden.jobs.finish()
        assert ready(work) == [] and names(work) == []
    work.warden.spares.renew()
    work.warden.jobs.finish()
    assert len(ready(work)) == SHAPE.spares


def test_spare_that_cannot_be_made_leaves_nothing_and_is_not_tried_at_once(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    claim(work)
    with monkeypatch.context() as broken:
        broken.setattr(syscalls, "mount", refuse)
        work.warden.jobs.finish()
    assert len(ready(work)) == SHAPE.spares - 1
    assert len(names(work)) == SHAPE.spares
    work.warden.spares.refill()
    assert len(work.warden.jobs) == 0, "the next try is later"
    monkeypatch.setattr(spares_module, "RETRY_S", 0)
    work.warden.spares._retry_at = 0
    work.warden.spares.refill()
    work.warden.jobs.finish()
    assert len(ready(work)) == SHAPE.spares


def test_session_gets_the_slot_of_a_spare_when_all_others_are_leased(work: Work) -> None:
    """With 32 slots and two spares, each of 32 sessions of another size has a slot."""
    for number in range(32):
        work.begin(number, size=16 << 20, inodes=64)
        assert work.reply()["ok"]
    assert len(work.warden.resources.slots.leased) == 32
    work.begin(99, size=16 << 20, inodes=64)
    assert "slots.count" in work.reply()["error"]


def test_next_start_removes_the_spares_of_a_daemon_that_was_killed(work: Work) -> None:
    slots = work.warden.resources.slots
    claimed = claim(work)
    for slot in ready(work):
        work.warden.resources.scratch.unmount(slot.path)  # as the kernel does
    slots.close()
    assert len(names(work)) == SHAPE.spares
    removed = slots.remove(slots.unleased())
    assert len(removed) == SHAPE.spares - 1
    assert names(work) == [claimed.session]
