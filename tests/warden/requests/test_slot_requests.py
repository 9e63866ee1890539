"""Requests about slots: a refused lease leaves nothing, a released slot leaves nothing, and an
adopted session has its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxd.errors import Invalid, StageError
from sandboxd.jail import mounts, syscalls

from ...loop_devices import backing_files
from ...sandbox import BareWarden, lease, restarted


@pytest.mark.parametrize(("size", "inodes"), [(1, 4096), (64 << 20, "x")])
def test_malformed_lease_is_refused_and_leaves_nothing(
    warden: BareWarden, size: int, inodes: int
) -> None:
    before = dict(warden.resources.slots.leased)
    with pytest.raises(Invalid):
        lease(warden, size, inodes)
    assert warden.resources.slots.leased == before


def test_scratch_that_cannot_be_made_gives_the_slot_back(
    warden: BareWarden, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(syscalls, "mount", refuse)
    before = dict(warden.resources.slots.leased)
    with pytest.raises(StageError, match="scratch"):
        lease(warden)
    assert warden.resources.slots.leased == before


def test_released_slot_leaves_no_mount_no_loop_device_and_no_file(warden: BareWarden) -> None:
    sandbox = lease(warden)
    sandbox.run("echo x > f")
    slot = sandbox.slot
    image = f"{slot.path}/image"
    assert any(image in text for text in backing_files())
    warden.free(slot)
    assert not os.path.exists(slot.path)
    assert slot.path not in Path("/proc/self/mounts").read_text()
    assert not any(image in text for text in backing_files())


def test_adopted_session_has_its_files(warden: BareWarden) -> None:
    sandbox = lease(warden)
    sandbox.run("echo kept > f")
    sandbox.slot, _ = restarted(sandbox.slot, warden)
    assert sandbox.run("cat f").stdout == "kept\n"
    warden.free(sandbox.slot)


def test_image_that_is_still_attached_is_not_attached_twice(warden: BareWarden) -> None:
    """Two loop devices on one image would ruin its file system."""
    slot = lease(warden).slot
    shim = mounts.clone(slot.scratch)  # a run that outlives its warden keeps this
    slot, _ = restarted(slot, warden)
    image = f"{slot.path}/image"
    assert sum(image in text for text in backing_files()) == 1
    os.close(shim)
    warden.free(slot)
