"""Fixtures for tests that make real jails; everything they make is gone when they end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

from sandboxd.jail import chroot, syscalls
from sandboxd.warden.requests import Requests

from .sandbox import Sandbox, lease, make_requests


@pytest.fixture(scope="session")
def own_mounts() -> None:
    """This process mounts in a namespace of its own, as the warden does."""
    chroot.own_mounts(propagation=syscalls.MS_SLAVE)


@pytest.fixture(scope="session")
def requests(own_mounts: None) -> Iterator[Requests]:
    """A warden's acts."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as state_dir:
        os.chmod(state_dir, 0o711)
        made = make_requests(state_dir)
        yield made
        for slot in list(made.slots.leased.values()):
            made.free(slot)
        made.hierarchy.remove()


@pytest.fixture
def sandbox(requests: Requests) -> Iterator[Sandbox]:
    """A slot, leased for one test."""
    made = lease(requests)
    yield made
    requests.free(made.slot)
