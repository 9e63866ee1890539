"""The check that the loop, which is the test's own process, mounts no image."""

from __future__ import annotations

import os

import pytest

from sandboxd.warden.slots import images


def refuse_mounts_in_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, only other processes than this one may mount an image."""
    loop, mount = os.getpid(), images.mount

    def mount_in_job(image: str, target: str) -> None:
        assert os.getpid() != loop, "this waits for the disk"
        mount(image, target)

    monkeypatch.setattr(images, "mount", mount_in_job)
