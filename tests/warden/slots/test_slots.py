"""Slots: numbers that nothing else on the host uses, and that leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandboxd.config.settings import SlotsConfig
from sandboxd.errors import Invalid, Unavailable
from sandboxd.host import procfs
from sandboxd.warden.slots import uid_processes
from sandboxd.warden.slots.reclaim import Remains, reclaim
from sandboxd.warden.slots.slots import Slot, Slots, commit
from sandboxd.warden.uid_lease import UidLease, lease_uid

from ...sandbox import TEST_UIDS
from ...waiting import PATIENCE_S

FIRST = TEST_UIDS + 100
SESSION = str(uuid.uuid4())


@contextmanager
def slots_of(state: Path) -> Iterator[Slots]:
    """The slots of a daemon with this state directory; afterwards it holds no lease any more."""
    slots = Slots(SlotsConfig(FIRST, 3), str(state))
    yield slots
    for slot in (*slots.leased.values(), *slots.emptying.values()):
        slot.uid_lease.close()
    slots.close()


def expect_lease(lease: UidLease | None) -> UidLease:
    """A lease that must have been free."""
    assert lease is not None
    return lease


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    with slots_of(tmp_path) as slots:
        yield slots


def lease(slots: Slots, session: str) -> Slot:
    """A slot, after the proof that it is empty. Raises LookupError when no slot is free."""
    begin = 0
    while not slots.vacant:
        begin = slots.prove(begin)
        if not slots.proving:
            raise LookupError
        slots.proven(frozenset(slots.unused(frozenset())))
    slot = slots.lease(session)
    os.makedirs(f"{slot.path}/runs")
    return slot


def test_each_session_has_a_uid_of_its_own(slots: Slots, tmp_path: Path) -> None:
    leased = [lease(slots, str(uuid.uuid4())) for _ in range(3)]
    assert [slot.uid for slot in leased] == [FIRST, FIRST + 1, FIRST + 2]
    with pytest.raises(LookupError):
        lease(slots, str(uuid.uuid4()))
    slots.vacate(leased[1])
    assert reclaim(str(tmp_path), 1, FIRST + 1) == Remains([], [])
    slots.release(leased[1])
    assert lease(slots, str(uuid.uuid4())).uid == FIRST + 1


def test_directory_that_is_no_slots_is_not_removed(slots: Slots, tmp_path: Path) -> None:
    for name in ("lost+found", "4", "²"):
        (tmp_path / "slots" / name).mkdir()
    (tmp_path / "slots" / "1").mkdir()
    assert slots.remove(slots.unleased()) == [str(tmp_path / "slots" / "1")]
    assert sorted(os.listdir(tmp_path / "slots")) == ["4", "lost+found", "²"]


def test_uid_held_by_another_daemon_is_passed_over(slots: Slots) -> None:
    with expect_lease(lease_uid(FIRST)):
        assert lease(slots, SESSION).uid == FIRST + 1


def test_uid_with_a_living_process_is_not_leased(slots: Slots) -> None:
    with subprocess.Popen(["/bin/sleep", "60"], user=FIRST, group=FIRST) as process:
        try:
            assert uid_processes.living(FIRST)
            assert lease(slots, SESSION).uid == FIRST + 1
        finally:
            process.kill()
    assert not uid_processes.living(FIRST)


@pytest.mark.parametrize("name", ["State:Z", "State:S Uid:0", "Uid:\t0", "x) Z 1 1"])
def test_process_is_not_hidden_by_a_name_that_reads_like_its_status(
    slots: Slots, name: str
) -> None:
    """A process chooses its name, which is the first field of /proc/PID/status."""
    program = f"import ctypes; ctypes.CDLL(None).prctl(15, {name.encode()!r}); print(1, flush=True)"
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", f"{program}; input()"], user=FIRST, group=FIRST,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout and process.stdout.readline()
        assert uid_processes.living(FIRST) == [process.pid]
        assert lease(slots, SESSION).uid == FIRST + 1
        uid_processes.end(FIRST)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
    assert not uid_processes.living(FIRST)


def test_process_with_the_number_of_one_that_has_ended_is_not_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process may end between the look at it and the signal, and another get its number."""
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        try:
            answers = [[other.pid], []]
            monkeypatch.setattr(
                "sandboxd.warden.slots.uid_processes.living", lambda uid: answers.pop(0)
            )
            monkeypatch.setattr(procfs, "is_user_of_any", lambda uid: True)
            uid_processes.end(FIRST)
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.3)
        finally:
            other.kill()


def test_directory_of_an_earlier_session_is_not_leased_again(slots: Slots, tmp_path: Path) -> None:
    (tmp_path / "slots" / "0").mkdir()
    assert lease(slots, SESSION).number == 1


def test_adopted_slot_is_that_of_the_session_and_no_other(tmp_path: Path) -> None:
    with slots_of(tmp_path) as before:
        commit(lease(before, SESSION).path, SESSION)
    with slots_of(tmp_path) as after:
        with pytest.raises(Invalid, match="does not hold"):
            after.adopt(0, str(uuid.uuid4()))
        assert after.adopt(0, SESSION).uid == FIRST
        with pytest.raises(Invalid, match="not free"):
            after.adopt(0, SESSION)
        with pytest.raises(Unavailable):
            after.adopt(99, SESSION)


def test_session_that_begins_during_the_removal_of_slots_keeps_its_slot(
    slots: Slots, tmp_path: Path
) -> None:
    """A background job removes them, with its own copy of the lease table."""
    (tmp_path / "slots/1").mkdir()
    unleased = slots.unleased()
    new = lease(slots, SESSION)
    assert slots.remove(unleased) == [str(tmp_path / "slots/1")]
    assert Path(new.path).is_dir()


def test_slot_that_another_daemon_held_at_the_start_is_kept_after_its_end(tmp_path: Path) -> None:
    with slots_of(tmp_path / "mine") as before:
        commit(lease(before, SESSION).path, SESSION)
    with slots_of(tmp_path / "mine") as mine:
        with slots_of(tmp_path / "other") as other:
            lease(other, str(uuid.uuid4()))
            with pytest.raises(Unavailable, match="held by another daemon"):
                mine.adopt(0, SESSION)
        assert mine.remove(mine.unleased()) == []
        assert lease(mine, str(uuid.uuid4())).number == 1
    with slots_of(tmp_path / "mine") as after:
        assert after.adopt(0, SESSION).uid == FIRST


def test_slot_of_a_daemon_that_died_while_it_leased_it_is_removed(
    slots: Slots, tmp_path: Path
) -> None:
    (tmp_path / "slots" / "2").mkdir()
    leased = lease(slots, SESSION)
    assert slots.remove(slots.unleased()) == [str(tmp_path / "slots" / "2")]
    assert os.path.isdir(leased.path)


def test_proof_for_many_slots_walks_proc_once_and_only_if_a_process_has_such_a_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []
    pids = procfs.pids

    def walk() -> list[int]:
        walks.append(1)
        return pids()

    monkeypatch.setattr(procfs, "pids", walk)
    slots = Slots(SlotsConfig(FIRST, 40), str(tmp_path))
    slots.prove(0)
    assert slots.unused(frozenset()) == list(range(10)) and not walks
    with subprocess.Popen(["/bin/sleep", "60"], user=FIRST + 3) as process:
        try:
            slots.proven(frozenset(slots.unused(frozenset())))
        finally:
            process.kill()
    assert sorted(slots.vacant) == [*range(3), *range(4, 10)] and len(walks) == 1
    slots.close()


def test_vacant_slot_is_held_against_other_daemons(slots: Slots, tmp_path: Path) -> None:
    lease(slots, SESSION)
    slots.prove(0)
    slots.proven({1})
    with slots_of(tmp_path / "other") as other:
        assert lease(other, SESSION).number == 2
    assert lease(slots, SESSION).number == 1


def test_slot_with_a_group_of_a_run_is_not_vacant(slots: Slots) -> None:
    slots.prove(0)
    assert slots.unused({0}) == []


def test_slot_whose_lease_a_sweep_takes_is_not_vacant_any_more(slots: Slots) -> None:
    slots.prove(0)
    with expect_lease(slots.take_uid_lease(0)):
        slots.proven({0})
        assert not slots.vacant, "the sweep came during the proof"
        assert slots.take_uid_lease(0) is None
    slots.prove(0)
    slots.proven({0})
    with expect_lease(slots.take_uid_lease(0)):
        assert not slots.vacant


def test_no_more_than_a_bounded_number_of_slots_is_vacant(slots: Slots) -> None:
    one = lease(slots, "session")
    slots.prove(0)
    assert len(slots.proving) == slots.vacant_max and not slots.vacant
    slots.vacate(one)
    slots.release(one)  # while others are being looked at
    slots.proven(set(slots.proving))
    assert len(slots.vacant) == slots.vacant_max
