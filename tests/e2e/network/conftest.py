"""A network and a daemon for all tests of a module.

A module may have `profiles`, a function that makes its profiles for the network.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from ..daemon import Daemon
from .world import PROFILES, World, client, world


@pytest.fixture(scope="module")
def network() -> Iterator[World]:
    with world() as one:
        (one.www / "hello").write_text("hello\n")
        yield one


@pytest.fixture(scope="module")
def daemon(request: pytest.FixtureRequest, network: World) -> Iterator[Daemon]:
    profiles = getattr(request.module, "profiles", None)
    with network.daemon(profiles(network) if profiles else PROFILES) as one:
        yield one


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    """Root at the Unix socket."""
    with client(daemon) as one:
        yield one
