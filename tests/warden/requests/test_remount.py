"""Scratches that take no changes any more: the loop waits for no disk to see it, and a background
job mounts them anew before the requests that need them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.errors import SandboxdError, StageError, Unavailable
from sandboxd.warden.requests.remount import Remounts, is_shut_off
from sandboxd.warden.slots import images
from sandboxd.warden.slots.slots import Slot
from sandboxd.wire.ops import RequestChecker

from ...sandbox import BareWarden, Sandbox
from .loop_mounts import refuse_mounts_in_loop
from .test_provisioning import Work


class RemountWork(Work):
    """The loop of a warden with one slot, and the requests that its remounts keep back."""

    def __init__(self, warden: BareWarden, slot: Slot) -> None:
        super().__init__(warden)
        self.slot = slot
        self.outcomes: list[SandboxdError | None] = []
        self.remounts = Remounts(
            warden.resources, warden.jobs, warden.entries.end_warm, warden.teardown.go_on
        )

    def hold(self) -> bool:
        """Whether a request for a file helper has to wait."""
        message = {"slot": self.slot.number, "session": self.slot.session}
        request = RequestChecker().check({"op": "files", "id": 1, **message}, [])
        return self.remounts.hold(request, self.outcomes.append)

    def shut_off(self) -> None:
        """The scratch takes no changes any more."""
        fd = os.open(self.slot.scratch, os.O_PATH)
        images.forget(fd)
        os.close(fd)


@pytest.fixture
def work(warden: BareWarden, sandbox: Sandbox) -> Iterator[RemountWork]:
    jobs = RemountWork(warden, sandbox.slot)
    yield jobs
    jobs.ours.close()
    jobs.theirs.close()


def transactions(scratch: str) -> int:
    """How many transactions the journal of a scratch has had, after the one that may be open."""
    fd = os.open(scratch, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    device = os.stat(scratch).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    name = Path(f"/sys/dev/block/{number}").resolve().name
    return int(Path(f"/proc/fs/jbd2/{name}-8/info").read_text().split()[0])


def test_look_at_a_scratch_begins_no_transaction_of_its_journal(sandbox: Sandbox) -> None:
    """It would wait for the disk where a program has filled the journal."""
    before = transactions(sandbox.slot.scratch)
    assert not is_shut_off(sandbox.slot.scratch)
    assert transactions(sandbox.slot.scratch) == before
    os.utime(sandbox.slot.scratch)
    assert transactions(sandbox.slot.scratch) > before, "nothing is counted"


def test_request_for_a_scratch_that_takes_changes_does_not_wait(work: RemountWork) -> None:
    assert not work.hold() and not len(work.warden.jobs)


@pytest.mark.parametrize("is_suspect", [False, True])
def test_scratch_that_takes_no_changes_is_mounted_anew_in_a_background_job(
    work: RemountWork, monkeypatch: pytest.MonkeyPatch, is_suspect: bool
) -> None:
    refuse_mounts_in_loop(monkeypatch)
    work.slot.suspect = is_suspect
    if not is_suspect:
        work.shut_off()
        assert is_shut_off(work.slot.scratch)
    assert work.hold() and work.hold(), "both wait for one job"
    assert len(work.warden.jobs) == 1 and not work.outcomes
    work.warden.jobs.finish()
    assert work.outcomes == [None, None]
    assert not is_shut_off(work.slot.scratch) and not work.hold()


def test_request_is_refused_when_the_scratch_cannot_be_mounted_and_the_next_one_tries_again(
    work: RemountWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    work.shut_off()
    with monkeypatch.context() as patch:
        patch.setattr(images, "mount", refuse)
        assert work.hold()
        work.warden.jobs.finish()
    (error,) = work.outcomes
    assert isinstance(error, StageError) and error.stage == "scratch"
    assert work.hold()
    work.warden.jobs.finish()
    assert work.outcomes == [error, None] and not is_shut_off(work.slot.scratch)


def test_release_waits_until_the_scratch_is_mounted_anew(work: RemountWork) -> None:
    finished: list[StageError | None] = []
    work.slot = work.lease()
    assert work.reply()["ok"]
    work.shut_off()
    assert work.hold()
    work.warden.teardown.begin(work.slot, finished.append)
    assert work.slot.number in work.warden.resources.slots.leased
    with pytest.raises(Unavailable, match="being released"):
        work.hold()
    work.warden.jobs.finish()
    assert finished == [None] and not os.path.exists(work.slot.path)


def test_request_that_waits_when_the_daemon_ends_is_refused(work: RemountWork) -> None:
    work.shut_off()
    assert work.hold()
    work.remounts.close()
    work.warden.jobs.finish()
    (error,) = work.outcomes
    assert error and "ending" in str(error)


def test_scratch_in_memory_is_never_mounted_anew(
    work: RemountWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is in it would be gone."""
    resources = work.warden.resources
    scratch = replace(resources.config.scratch, kind="tmpfs")
    monkeypatch.setattr(resources, "config", replace(resources.config, scratch=scratch))
    work.slot.suspect = True
    assert not work.hold()


def test_scratch_that_a_run_uses_stays_as_it_is(work: RemountWork) -> None:
    work.shut_off()
    work.slot.runs[1] = os.getpid()
    assert not work.hold()
    work.slot.runs.clear()
