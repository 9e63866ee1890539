"""Slow readers cannot have the broker killed for its memory."""

from __future__ import annotations

from sandboxd.broker.open_connections import CONNECTIONS_MAX
from sandboxd.broker.relay import CHUNK
from sandboxd.warden.broker.broker_link import LIMITS

PROCESS = 256 << 20
"""The interpreter with its modules and threads, and what the kernel has for the connections."""


def test_all_connections_with_slow_readers_fit_into_the_limit_of_the_broker() -> None:
    assert LIMITS.memory >= CONNECTIONS_MAX * 2 * CHUNK + PROCESS
