"""Requests about virtual folders: the loop waits for no disk, and a folder is mounted as long as it
has a user."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandboxd.errors import Invalid, StageError
from sandboxd.warden.requests.folder_requests import FolderRequests
from sandboxd.warden.requests.replies import PendingReply
from sandboxd.warden.requests.slot_requests import SlotRequests
from sandboxd.warden.runs.worker import Worker
from sandboxd.warden.slots import images
from sandboxd.wire import messages

from ...sandbox import BareWarden, Sandbox, lease
from .loop_mounts import refuse_mounts_in_loop
from .test_provisioning import Work


class FolderWork(Work):
    """The loop of a warden with one folder, and requests that need the folder mounted."""

    def __init__(self, warden: BareWarden) -> None:
        super().__init__(warden)
        self.folder = str(uuid.uuid4())
        warden.make_folder(self.folder, 16 << 20, 1024)
        self.attachments = [{"folder": self.folder, "name": "data", "read_only": False}]
        self.helpers: list[Worker] = []
        self.requests = FolderRequests(warden.resources, self.helpers.append, warden.jobs)
        self.target = warden.resources.folders._mount(self.folder)

    def call(self) -> None:
        """Ask for a file helper."""
        self.requests.folder_files(PendingReply(self.theirs, 3), self.folder)

    def remove(self) -> None:
        """Ask for the removal of the folder."""
        self.requests.folder_remove(PendingReply(self.theirs, 4), self.folder)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        self.warden.remove_folder(self.folder)

    def answer(self) -> dict[str, Any]:
        """The next reply; its helper ends."""
        self.warden.jobs.finish()
        message, fds = messages.receive(self.ours)
        messages.close_all(fds)
        for helper in self.helpers:
            os.waitpid(helper.pid, 0)
        self.helpers.clear()
        assert message is not None
        return message


@pytest.fixture
def work(warden: BareWarden) -> Iterator[FolderWork]:
    jobs = FolderWork(warden)
    yield jobs
    jobs.close()


def make_file_call(work: FolderWork) -> None:
    work.call()
    assert work.answer() == {"id": 3, "ok": True}


def make_session(work: FolderWork) -> None:
    slot = work.lease(attachments=work.attachments)
    assert work.reply() == {"id": 7, "ok": True, "slot": slot.number}
    work.warden.free(slot)


def adopt_session(work: FolderWork) -> None:
    resources = work.warden.resources
    slot = work.lease()  # its folder comes with the adoption
    work.reply()
    slot.uid_lease.close()
    del resources.slots.leased[slot.number]
    (requests,) = (one for one in work.warden._subjects if isinstance(one, SlotRequests))
    adoption = {
        "slot": slot.number, "session": slot.session, "attachments": work.attachments, "runs": [],
        "workspace": None,
    }  # fmt: skip
    resources.scratch.unmount(slot.path)
    requests.adopt(PendingReply(work.theirs, 5), **work.warden.checked("adopt", **adoption))
    assert work.reply() == {"id": 5, "ok": True}
    adopted = resources.leased(slot.number, slot.session)
    assert os.path.ismount(work.target)
    work.warden.free(adopted)


@pytest.mark.parametrize("act", [make_file_call, make_session, adopt_session])
def test_folder_is_mounted_in_a_background_job_and_never_in_the_loop(
    work: FolderWork, monkeypatch: pytest.MonkeyPatch, act: Callable[[FolderWork], None]
) -> None:
    refuse_mounts_in_loop(monkeypatch)
    act(work)
    assert not os.path.ismount(work.target)
    assert not work.warden.resources.folders.used


def test_file_call_on_a_folder_of_a_session_needs_no_job_and_leaves_it_mounted(
    work: FolderWork,
) -> None:
    sandbox: Sandbox = lease(work.warden, attachments=work.attachments)
    work.call()
    assert not len(work.warden.jobs)
    assert work.answer() == {"id": 3, "ok": True}
    assert os.path.ismount(work.target)
    work.warden.free(sandbox.slot)


def test_session_gets_a_folder_that_a_file_call_has_mounted_and_leaves(work: FolderWork) -> None:
    work.call()
    slot = work.lease(attachments=work.attachments)
    assert {work.answer()["id"], work.answer()["id"]} == {3, 7}
    assert slot.ready and os.path.ismount(work.target)
    work.warden.free(slot)


def test_removal_of_a_folder_waits_for_the_file_calls_before_it_and_refuses_later_ones(
    work: FolderWork,
) -> None:
    work.call()
    work.remove()
    with pytest.raises(Invalid, match="in use"):
        work.remove()
    with pytest.raises(Exception, match="is being removed"):
        work.call()
    assert work.answer() == {"id": 3, "ok": True}
    assert work.answer() == {"id": 4, "ok": True}
    assert not os.path.exists(os.path.dirname(work.target))


def starved(_: str) -> None:
    raise StageError("image", "Too many open files", errno.EMFILE)


def test_file_call_that_ends_while_no_descriptor_is_free_ends_no_warden(
    work: FolderWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(images, "detach", starved)
        make_file_call(work)
    assert not work.warden.resources.folders.used
    make_file_call(work)
    assert not os.path.ismount(work.target)


def test_slot_whose_folder_finds_no_descriptor_is_emptied_later_and_closes_no_other_file(
    work: FolderWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, folders = work.lease(attachments=work.attachments), work.warden.resources.folders
    work.reply()
    number = slot.idmap
    assert number
    with monkeypatch.context() as full:
        full.setattr(images, "detach", starved)
        with pytest.raises(StageError):
            folders.take_back(slot)
    other = os.open("/dev/null", os.O_RDONLY)
    os.dup2(other, number)  # a file of another session has the number now
    messages.close_all(folders.take_back(slot))
    messages.close_all(list({other, number}))
    assert not folders.used and slot.attachments == ()
    work.warden.free(slot)


def test_folder_whose_unmounting_failed_is_in_use_until_a_later_call_unmounts_it(
    work: FolderWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, folders = work.lease(attachments=work.attachments), work.warden.resources.folders
    work.reply()
    with monkeypatch.context() as full:
        full.setattr(images, "detach", starved)
        with pytest.raises(StageError):
            folders.take_back(slot)
    assert os.path.ismount(work.target) and folders.used == {work.folder}
    with pytest.raises(Invalid, match="in use"):
        work.remove()
    messages.close_all(folders.take_back(slot))
    assert not os.path.ismount(work.target) and not folders.used
    work.warden.free(slot)


def test_file_call_on_a_folder_that_is_not_there_is_refused_and_leaves_no_user(
    work: FolderWork,
) -> None:
    work.warden.remove_folder(work.folder)
    work.call()
    reply = work.answer()
    assert not reply["ok"] and "is not there" in reply["error"]
    assert not work.warden.resources.folders.used
