"""The addresses of a host: those that may be connected to, and no others."""

from __future__ import annotations

import ipaddress

import pytest

from sandboxd.broker.outcomes import Stopped
from sandboxd.broker.upstream import allowed
from sandboxd.network_hosts import HostPort

TARGET = HostPort("index.example", 443)
PUBLIC, PRIVATE, OWN = map(ipaddress.ip_address, ("8.8.8.8", "10.0.0.7", "127.0.0.1"))


def nothing_listed(_: HostPort) -> bool:
    return False


def test_addresses_that_are_not_public_are_passed_over() -> None:
    assert allowed(TARGET, [PRIVATE, PUBLIC, OWN], nothing_listed) == [PUBLIC]


@pytest.mark.parametrize("answers", [[], [PRIVATE], [OWN, PRIVATE]])
def test_name_without_a_public_address_is_refused(
    answers: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> None:
    with pytest.raises(Stopped, match="has no public address"):
        allowed(TARGET, answers, nothing_listed)


def test_listed_address_counts_with_its_port_alone() -> None:
    assert allowed(TARGET, [PRIVATE], lambda one: one == HostPort("10.0.0.7", 443)) == [PRIVATE]
    with pytest.raises(Stopped):
        allowed(TARGET, [PRIVATE], lambda one: one == HostPort("10.0.0.7", 80))
