"""Slots and folders that are made in chores: nobody meets one that is not ready, and one that
cannot be made is nobody's afterwards."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from sandboxd.errors import Invalid, StageError
from sandboxd.warden.background import BackgroundJobs
from sandboxd.warden.requests import Requests
from sandboxd.warden.slots import durable
from sandboxd.warden.slots.leases import Slot
from sandboxd.warden.slots.provisioning import Provisioning


class Work:
    """Making beside a small loop: what was answered, and what was to be released."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.answers: dict[int, dict[str, Any] | StageError] = {}
        self.released: list[Slot] = []
        self.chores = BackgroundJobs()
        self.making = Provisioning(requests, self.chores, self.answers.__setitem__, self._release)

    def _release(self, slot: Slot, id: int) -> None:
        self.released.append(slot)
        self.requests.free(slot)
        error = self.making.released(id)
        assert error
        self.answers[id] = error

    def finish(self) -> None:
        deadline = time.monotonic() + 30
        while len(self.chores):
            for pid in self.pids():
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.chores.collected(pid, status)
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def pids(self) -> list[int]:
        return list(self.chores._under_way)


@pytest.fixture
def work(requests: Requests) -> Work:
    return Work(requests)


def asked(**more: Any) -> dict[str, Any]:
    return {
        "session": str(uuid.uuid4()), "size": 64 << 20, "inodes": 4096, "mounts": [],
    } | more  # fmt: skip


def test_slot_that_is_being_made_meets_no_request(work: Work) -> None:
    request = asked()
    work.making.slot(request, 7)
    (slot,) = [s for s in work.requests.slots.leased.values() if s.session == request["session"]]
    named = {"slot": slot.number, "session": slot.session}
    with pytest.raises(Invalid, match="not leased"):
        work.requests.leased(named)
    assert work.answers == {}
    work.finish()
    assert work.answers == {7: {"slot": slot.number}}
    assert work.requests.leased(named) is slot
    assert os.path.isdir(f"{slot.scratch}/work")
    work.requests.free(slot)


def test_several_are_made_at_once_with_one_blank(work: Work) -> None:
    size = (64 << 20) + 4096 * os.getpid()  # of which there is no blank yet
    for id in range(4):
        work.making.slot(asked(size=size), id)
    assert len(work.pids()) == 4
    work.finish()
    for answer in work.answers.values():
        assert isinstance(answer, dict)
        slot = work.requests.slots.leased[answer["slot"]]
        assert os.path.isdir(f"{slot.scratch}/work")
        work.requests.free(slot)


def _kill(work: Work, _: pytest.MonkeyPatch) -> None:
    for pid in work.pids():
        os.kill(pid, signal.SIGKILL)


def _fail(_: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StageError("scratch", "no room", 28)

    monkeypatch.setattr("sandboxd.warden.slots.scratch.images.mount", refuse)


@pytest.mark.parametrize(
    ("before", "after", "stage"), [(None, _kill, "chore"), (_fail, None, "scratch")]
)
def test_slot_that_cannot_be_made_is_nobodys_and_its_request_is_told(
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Work, pytest.MonkeyPatch], None] | None,
    after: Callable[[Work, pytest.MonkeyPatch], None] | None,
    stage: str,
) -> None:
    leased = dict(work.requests.slots.leased)
    if before:
        before(work, monkeypatch)
    work.making.slot(asked(), 7)
    if after:
        after(work, monkeypatch)
    work.finish()
    error = work.answers[7]
    assert isinstance(error, StageError) and error.stage == stage
    (slot,) = work.released
    assert not os.path.exists(slot.path)
    assert work.requests.slots.leased == leased


def test_folder_that_cannot_be_made_is_told(work: Work) -> None:
    folder = str(uuid.uuid4())
    work.making.folder({"folder": folder, "size": 16 << 20, "inodes": 1024}, 1)
    work.finish()
    assert work.answers.pop(1) == {}
    work.making.folder({"folder": folder, "size": 16 << 20, "inodes": 1024}, 2)
    work.finish()
    assert isinstance(work.answers[2], StageError)
    work.requests.folder_remove({"folder": folder})


def test_folder_whose_making_was_killed_half_way_can_be_removed(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(durable, "settle", killed)  # the image is mounted by then
    folder = str(uuid.uuid4())
    work.making.folder({"folder": folder, "size": 16 << 20, "inodes": 1024}, 1)
    work.finish()
    assert isinstance(work.answers[1], StageError)
    path = f"{work.requests.config.state_dir}/folders/{folder}"
    assert os.path.ismount(f"{path}/mount")
    work.requests.folder_remove({"folder": folder})
    assert not os.path.exists(path)
