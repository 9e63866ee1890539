"""The way from a target to a connected socket: one resolution, checked addresses, one of them.

The name is resolved once, and the socket is connected to an address that has been checked: a second
answer of the name server has no effect. An address that is not public counts only if the profile
has it by itself, with the port. An address of this host is refused in any case but that one: a
service of the host could be listening there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence

from ..network_hosts import Address, HostPort, is_public, translated
from .outcomes import Stopped

TRIES = 4
"""Addresses of one name that are tried."""


async def addresses(target: HostPort) -> list[Address]:
    """The addresses of a host. Raises Stopped."""
    loop = asyncio.get_running_loop()
    try:
        answers = await loop.getaddrinfo(
            target.host, target.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be resolved"
        raise Stopped("no-address", f"{target.host} has no address: {reason}") from None
    return list(dict.fromkeys(ipaddress.ip_address(answer[4][0]) for answer in answers))


def allowed(
    target: HostPort, answers: Sequence[Address], is_listed: Callable[[HostPort], bool]
) -> list[Address]:
    """The addresses that may be connected to; `is_listed` knows the addresses of the profile.
    Raises Stopped when there is none."""
    usable = [
        one for one in answers if is_listed(HostPort(str(one), target.port)) or is_reachable(one)
    ]
    if not usable:
        raise Stopped("not-public", f"{target} has no public address")
    return usable


def is_reachable(address: Address) -> bool:
    """The address is public, and not one of this host."""
    return is_public(address) and not _is_own(address)


def _is_own(address: Address) -> bool:
    """The kernel would take the address itself as the source of a connection to the address, or to
    the one that a translator of the network (NAT64) would make of it."""
    if (inner := translated(address)) is not None:
        address = inner
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((str(address), 9))  # a datagram socket sends nothing for that
        return bool(ipaddress.ip_address(sock.getsockname()[0]) == address)
    return False


async def connected(target: HostPort, usable: Sequence[Address]) -> socket.socket:
    """A socket that is connected to the first of the addresses that answers. Raises Stopped."""
    loop, reason = asyncio.get_running_loop(), ""
    for address in usable[:TRIES]:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, (str(address), target.port))
            return sock
        except OSError as error:
            sock.close()
            reason = os.strerror(error.errno) if error.errno else str(error)
        except BaseException:  # cancelled; raised again
            sock.close()
            raise
    raise Stopped("unreachable", f"{target}: {reason}")
