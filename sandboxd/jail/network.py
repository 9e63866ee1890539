"""The network of a run: a loopback of its own, up and idle, and nothing else.

Test suites start servers on 127.0.0.1, so the loopback is brought up (netdevice(7)). The network
namespace is new, so no other process listens there, and abstract sockets of the host are not seen.
"""

from __future__ import annotations

import fcntl
import socket
import struct

from .stage import expect, stage

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_IFREQ = struct.Struct("16sH22x")


def _flags(sock: socket.socket, name: str) -> int:
    answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
    return int(_IFREQ.unpack(answer)[1])


def apply() -> None:
    """Bring the loopback up."""
    with stage("network"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", _flags(sock, "lo") | _IFF_UP))


def verify() -> None:
    """Loopback is the only interface, and it is up."""
    with stage("network"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        names = [name for _, name in socket.if_nameindex()]
        up = bool(_flags(sock, "lo") & _IFF_UP)
    # Some kernels put down tunnel devices (tunl0, sit0 ...) into each new namespace; they are
    # idle without CAP_NET_ADMIN, so only the loopback's own state is compared.
    expect("network", "interfaces", "lo" in names, True)
    expect("network", "loopback up", up, True)
