"""The network of a run: a loopback of its own, up and idle, and nothing else.

Test suites start servers on 127.0.0.1, so the loopback is brought up (netdevice(7)). The network
namespace is new, so no other process listens there, and abstract sockets of the host are not seen.
Multicast works on the loopback too: discovery services and their tests join a group without the
name of an interface, and the kernel then wants a route to the group.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct

from .stage import expect, stage

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP, _IFF_MULTICAST = 0x1, 0x1000
_SIOCADDRT = 0x890B
_RTF_UP, _RTF_LOCAL = 0x1, 0x80000000
_IFREQ = struct.Struct("16sH22x")
_ADDRESS = struct.Struct("HH4s8x")  # struct sockaddr_in
# struct rtentry (linux/route.h): destination, gateway, netmask, flags, name of the device
_RTENTRY = struct.Struct("@8x16s16s16sH22xhP16xH6x")
# struct in6_rtmsg (linux/ipv6_route.h): destination, its length, metric, flags, interface
_IN6_RTMSG = struct.Struct("@16s36xH2xI4x8xIi")
_GROUPS, _MASK = socket.inet_aton("224.0.0.0"), socket.inet_aton("240.0.0.0")
_LOOPBACK = ctypes.create_string_buffer(b"lo")
_GROUPS_V6 = socket.inet_pton(socket.AF_INET6, "ff00::")


def _flags(sock: socket.socket, name: str) -> int:
    answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
    return int(_IFREQ.unpack(answer)[1])


def apply() -> None:
    """Bring the loopback up, with multicast."""
    with stage("network"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        flags = _flags(sock, "lo") | _IFF_UP
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags))
    enable_multicast()


def enable_multicast() -> None:
    """Let the loopback take multicast, and route the groups to it."""
    with stage("network"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        flags = _flags(sock, "lo") | _IFF_MULTICAST
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags))
        groups, mask = (_ADDRESS.pack(socket.AF_INET, 0, part) for part in (_GROUPS, _MASK))
        route = _RTENTRY.pack(groups, bytes(16), mask, _RTF_UP, 0, ctypes.addressof(_LOOPBACK), 0)
        fcntl.ioctl(sock, _SIOCADDRT, route)
        _route_groups_v6()


def _route_groups_v6() -> None:
    """Route the multicast groups of IPv6 to the loopback, unless the host has no IPv6.

    The kernel turns a route over a loopback into one that refuses, unless it is a local one
    (fib6_is_reject in net/ipv6/route.c).
    """
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            flags, device = _RTF_UP | _RTF_LOCAL, socket.if_nametoindex("lo")
            route = _IN6_RTMSG.pack(_GROUPS_V6, 8, 1, flags, device)
            fcntl.ioctl(sock, _SIOCADDRT, route)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EACCES, errno.ENODEV, errno.EINVAL):
            raise


def verify() -> None:
    """Loopback is the only interface, and it is up."""
    with stage("network"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        names = [name for _, name in socket.if_nameindex()]
        up = bool(_flags(sock, "lo") & _IFF_UP)
    # Some kernels put down tunnel devices (tunl0, sit0 ...) into each new namespace; they are
    # idle without CAP_NET_ADMIN, so only the loopback's own state is compared.
    expect("network", "interfaces", "lo" in names, True)
    expect("network", "loopback up", up, True)
