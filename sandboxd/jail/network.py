"""The network of a run: a loopback of its own, up and idle, and nothing else.

Test suites start servers on 127.0.0.1, so the loopback is brought up (netdevice(7)). The network
namespace is new, so no other process listens there, and abstract sockets of the host are not seen.
Multicast works on the loopback too: discovery services and their tests join a group without the
name of an interface, and the kernel then wants a route to the group.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable

from ..host import procfs
from . import syscalls
from .stage import expect, stage

_INET, _INET6, _DATAGRAMS = int(socket.AF_INET), int(socket.AF_INET6), int(socket.SOCK_DGRAM)
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

# Packed once: each object that a new process uses for the first time costs it a page of memory.
_UP = _IFREQ.pack(b"lo", _IFF_UP)
_WITH_MULTICAST = _IFREQ.pack(b"lo", _IFF_UP | _IFF_MULTICAST)
_QUESTION = _IFREQ.pack(b"lo", 0)
_ROUTE = _RTENTRY.pack(
    _ADDRESS.pack(socket.AF_INET, 0, _GROUPS), bytes(16), _ADDRESS.pack(socket.AF_INET, 0, _MASK),
    _RTF_UP, 0, ctypes.addressof(_LOOPBACK), 0,
)  # fmt: skip
_LOOPBACK_INDEX = 1
"""Of each network namespace: the kernel makes the loopback first (loopback_net_init)."""
_ROUTE_V6 = _IN6_RTMSG.pack(_GROUPS_V6, 8, 1, _RTF_UP | _RTF_LOCAL, _LOOPBACK_INDEX)


COPIES = "/proc/sys/net/core/tstamp_allow_data"
"""Whether programs may have the kernel keep copies of what they send."""

RECEIVE_MAX = 1 << 19
"""Bytes that the kernel lets a buffer of TCP grow to. A loopback needs no more."""

BOUNDS = (
    ("/proc/sys/net/ipv4/tcp_rmem", b"4096 131072 %d" % RECEIVE_MAX),
    ("/proc/sys/net/ipv4/tcp_max_tw_buckets", b"16384"),
)
"""Settings of the network namespace (tcp(7)) that bound memory which no cgroup counts: the buffer
of a connection that nobody has accepted yet, and connections in TIME_WAIT. Those have 256 bytes
each, and without a setting of their own a run could have half as many as the host has room for in
its table of all connections."""


def _ioctl(family: int, request: int, value: bytes) -> bytes:
    """An ioctl on a socket of this family; the kernel's answer (netdevice(7))."""
    sock = socket.SocketType(family, _DATAGRAMS)
    try:
        return fcntl.ioctl(sock.fileno(), request, value)
    finally:
        sock.close()


def apply() -> None:
    """Bring the loopback up, with multicast, and bound what waits in sockets."""
    with stage("network"):
        _ioctl(_INET, _SIOCSIFFLAGS, _UP)
        forbid_copies()
        bound_memory()
    enable_multicast()


def forbid_copies() -> None:
    """Let no program have the kernel keep a copy of what it sends (SCM_TIMESTAMPING).
    208 KiB of such copies can wait in a socket, and no cgroup counts them.

    The setting is one of the namespace in newer kernels. In others it is absent here, and the
    operator can set it for the host.
    """
    with contextlib.suppress(FileNotFoundError, PermissionError):
        _set((COPIES, b"0"))


def bound_memory() -> None:
    """Bound the memory of connections that are in no file."""
    _set(*BOUNDS)


def _set(*settings: tuple[str, bytes]) -> None:
    """Write settings of this network namespace. A service manager (ProtectKernelTunables=) or a
    container shows /proc/sys read-only, which protects the settings of the host; those of a new
    network namespace are reached by another mount of proc, one for all of them."""
    try:
        _write(settings)
        return
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    proc = syscalls.mount_nowhere("proc")
    try:
        _write([(setting.removeprefix("/proc/"), value) for setting, value in settings], proc)
    finally:
        os.close(proc)


def _write(settings: Iterable[tuple[str, bytes]], directory: int | None = None) -> None:
    for setting, value in settings:
        fd = os.open(setting, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.write(fd, value)
        finally:
            os.close(fd)


def enable_multicast() -> None:
    """Let the loopback take multicast, and route the groups to it.

    The kernel turns a route of IPv6 over a loopback into one that refuses, unless it is a local one
    (fib6_is_reject in net/ipv6/route.c). The host may have no IPv6.
    """
    with stage("network"):
        _ioctl(_INET, _SIOCSIFFLAGS, _WITH_MULTICAST)
        _ioctl(_INET, _SIOCADDRT, _ROUTE)
        try:
            _ioctl(_INET6, _SIOCADDRT, _ROUTE_V6)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EACCES, errno.ENODEV, errno.EINVAL):
                raise


def verify() -> None:
    """The loopback is there and up, and the kernel has the bounds. /proc/sys shows each process the
    settings of its own network, also where they are shown read-only."""
    # Some kernels put down tunnel devices (tunl0, sit0 ...) into each new namespace; they are
    # idle without CAP_NET_ADMIN, so only the loopback's own state is compared.
    with stage("network"):
        answer = _ioctl(_INET, _SIOCGIFFLAGS, _QUESTION)
    expect("network", "loopback up", bool(_IFREQ.unpack(answer)[1] & _IFF_UP), True)
    for setting, value in BOUNDS:
        with stage("network"):
            current = " ".join(procfs.read(setting).split())
        expect("network", setting, current, value.decode())
