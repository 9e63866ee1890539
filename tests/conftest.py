"""Fixtures for tests that make real jails; everything they make is gone when they end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

from sandboxd.jail import syscalls

from .sandbox import BareWarden, Sandbox, lease


@pytest.fixture(scope="session")
def own_mounts() -> None:
    """This process mounts in a namespace of its own, as the warden does."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)


@pytest.fixture(scope="session")
def warden(own_mounts: None) -> Iterator[BareWarden]:
    """A warden without a loop."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as state_dir:
        os.chmod(state_dir, 0o711)
        bare = BareWarden(state_dir)
        yield bare
        for slot in list(bare.resources.slots.leased.values()):
            bare.free(slot)
        bare.resources.hierarchy.remove()


@pytest.fixture
def sandbox(warden: BareWarden) -> Iterator[Sandbox]:
    """A slot, leased for one test."""
    leased = lease(warden)
    yield leased
    warden.free(leased.slot)
