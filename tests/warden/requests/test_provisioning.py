"""Provisioning in background jobs: no request reaches a slot that is not ready, and a slot that
cannot be made is free afterwards."""

from __future__ import annotations

import errno
import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.errors import Invalid, StageError
from sandboxd.host import procfs
from sandboxd.warden.requests.folder_requests import FolderRequests
from sandboxd.warden.requests.replies import PendingReply
from sandboxd.warden.slots import flush, images
from sandboxd.warden.slots.slots import Slot
from sandboxd.wire import messages

from ...sandbox import BareWarden

USUAL: dict[str, Any] = {"size": 64 << 20, "inodes": 4096, "attachments": [], "workspace": None}


class Work:
    """A small loop that collects background jobs, and the replies of their requests."""

    def __init__(self, warden: BareWarden) -> None:
        self.warden = warden
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def begin(self, number: int, **changes: Any) -> int | None:
        """Ask for a slot, as the api does; its number if a slot was vacant."""
        session = str(uuid.uuid4())
        arguments = USUAL | {"session": session} | changes
        reply = PendingReply(self.theirs, number)
        self.warden.provisioning.lease(reply, **self.warden.checked("lease", **arguments))
        leased = self.warden.resources.slots.leased.values()
        return next((slot.number for slot in leased if slot.session == session), None)

    def lease(self, number: int = 7, **changes: Any) -> Slot:
        """Begin to lease a slot; it is not ready yet."""
        session = str(uuid.uuid4())
        arguments = USUAL | {"session": session} | changes
        reply = PendingReply(self.theirs, number)
        self.warden.prove()
        self.warden.provisioning.lease(reply, **self.warden.checked("lease", **arguments))
        leased = self.warden.resources.slots.leased.values()
        (slot,) = [slot for slot in leased if slot.session == session]
        return slot

    def make_folder(self, folder: str) -> None:
        """Begin to make a folder."""
        reply = PendingReply(self.theirs, 1)
        warden = self.warden
        requests = FolderRequests(warden.resources, lambda _: None, warden.jobs)
        requests.folder_make(reply, folder, 16 << 20, 1024)

    def reply(self) -> dict[str, Any]:
        """The next reply, after all jobs have ended."""
        self.warden.jobs.finish()
        message, _ = messages.receive(self.ours)
        assert message is not None
        return message


@pytest.fixture
def work(warden: BareWarden) -> Iterator[Work]:
    jobs = Work(warden)
    yield jobs
    jobs.ours.close()
    jobs.theirs.close()


def test_slot_that_is_being_made_gets_no_request(work: Work) -> None:
    slot = work.lease(7)
    resources = work.warden.resources
    with pytest.raises(Invalid, match="not leased"):
        resources.leased(slot.number, slot.session)
    assert work.reply() == {"id": 7, "ok": True, "slot": slot.number}
    assert resources.leased(slot.number, slot.session) is slot
    assert os.path.isdir(f"{slot.scratch}/work")
    work.warden.free(slot)


def test_four_slots_are_made_at_once_with_one_blank(work: Work) -> None:
    size = (64 << 20) + 4096 * os.getpid()  # there is no blank of this size yet
    slots = {number: work.lease(number, size=size) for number in range(4)}
    assert len(work.warden.jobs.pids) == 4
    for _ in slots:
        reply = work.reply()
        slot = slots[reply["id"]]
        assert reply["slot"] == slot.number
        assert os.path.isdir(f"{slot.scratch}/work")
        work.warden.free(slot)


def _kill(work: Work, _: pytest.MonkeyPatch) -> None:
    for pid in work.warden.jobs.pids:
        os.kill(pid, signal.SIGKILL)


def _fail(_: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StageError("scratch", "no room", 28)

    monkeypatch.setattr("sandboxd.warden.slots.scratch.images.mount", refuse)


def _fill(_: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "makedirs", full)


@pytest.mark.parametrize(
    ("before", "after", "stage"),
    [(None, _kill, "job"), (_fail, None, "scratch"), (_fill, None, "lease")],
)
def test_slot_that_cannot_be_made_is_free_afterwards_and_its_request_refused(
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Work, pytest.MonkeyPatch], None] | None,
    after: Callable[[Work, pytest.MonkeyPatch], None] | None,
    stage: str,
) -> None:
    slots = work.warden.resources.slots
    # Slots of earlier tests may wait for the host's first process to collect a dead process.
    leased, emptying = dict(slots.leased), dict(slots.emptying)
    if before:
        before(work, monkeypatch)
    slot = work.lease(7)
    if after:
        after(work, monkeypatch)
    reply = work.reply()
    assert (reply["id"], reply["kind"], reply["stage"]) == (7, "stage", stage)
    assert not os.path.exists(slot.path)
    assert slots.leased == leased and slots.emptying == emptying


def test_folder_that_exists_cannot_be_made_again(work: Work) -> None:
    folder = str(uuid.uuid4())
    work.make_folder(folder)
    assert work.reply() == {"id": 1, "ok": True}
    work.make_folder(folder)
    assert work.reply()["stage"] == "folders"
    work.warden.remove_folder(folder)


def test_folder_whose_background_job_was_killed_can_be_removed(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(flush, "file_system", killed)  # the image is mounted by then
    folder = str(uuid.uuid4())
    work.make_folder(folder)
    assert work.reply()["stage"] == "job"
    path = f"{work.warden.resources.config.state_dir}/folders/{folder}"
    assert os.path.ismount(f"{path}/mount")
    work.warden.remove_folder(folder)
    assert not os.path.exists(path)


def test_end_of_a_session_does_not_wait_for_the_disk_to_take_its_files(work: Work) -> None:
    slot = work.lease(7, size=256 << 20)
    work.reply()
    attached = images._attached(f"{slot.path}/image")
    assert attached is not None
    os.close(attached[1])
    Path(slot.scratch, "work", "file").write_bytes(bytes(64 << 20))
    statistics = Path(f"/sys/block/{os.path.basename(attached[0])}/stat")
    before = int(statistics.read_text().split()[6])
    work.warden.free(slot)
    sectors = int(statistics.read_text().split()[6]) - before
    assert sectors * 512 < images.FORGET_MIN


@pytest.fixture
def blind_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk of /proc fails in this process, and not in background jobs."""
    loop, pids, entries = os.getpid(), procfs.pids, os.listdir

    def walk() -> list[int]:
        assert os.getpid() != loop, "the warden's loop walks /proc"
        return pids()

    def listing(path: Any = ".") -> list[str]:
        assert path != "/proc" or os.getpid() != loop, "the warden's loop lists /proc"
        return entries(path)

    monkeypatch.setattr(procfs, "pids", walk)
    monkeypatch.setattr(os, "listdir", listing)


def test_create_and_end_of_a_session_look_at_no_process_in_the_loop(
    work: Work, blind_loop: None
) -> None:
    slots = work.warden.resources.slots
    if not slots.vacant:
        work.warden.provisioning.prove()
        work.warden.jobs.finish()
    slot = work.begin(7)
    assert slot is not None
    assert work.reply() == {"id": 7, "ok": True, "slot": slot}
    leased = slots.leased[slot]
    ended: list[Any] = []
    work.warden.teardown.begin(leased, ended.append)
    work.warden.jobs.finish()
    assert ended == [None]


def test_creates_that_find_no_vacant_slot_wait_for_the_proof_and_get_one_each(
    work: Work, blind_loop: None
) -> None:
    slots = work.warden.resources.slots
    for number in list(slots.vacant):
        slots.vacant.pop(number).close()
    for number in range(3):
        work.begin(number)
    replies = [work.reply() for _ in range(3)]
    assert all(reply["ok"] for reply in replies)
    assert len({reply["slot"] for reply in replies}) == 3
    for reply in replies:
        work.warden.teardown.begin(slots.leased[reply["slot"]], lambda _: None)
    work.warden.jobs.finish()


def test_create_is_refused_when_no_slot_is_free(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = work.warden.resources.slots
    for number in list(slots.vacant):
        slots.vacant.pop(number).close()
    monkeypatch.setattr(slots, "take_uid_lease", lambda number: None)
    work.begin(3)
    reply = work.reply()
    assert (reply["kind"], "slots.count" in reply["error"]) == ("unavailable", True)


def test_create_with_a_folder_that_is_not_there_is_refused_and_looks_at_no_process(
    work: Work, blind_loop: None
) -> None:
    work.warden.resources.slots.proven(frozenset())
    attachment = {"folder": str(uuid.uuid4()), "name": "data", "read_only": False}
    with pytest.raises(StageError):
        work.begin(5, attachments=[attachment])
        work.warden.jobs.finish()
        raise StageError(work.reply()["stage"], "refused")
    work.warden.jobs.finish()
