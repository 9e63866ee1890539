"""The TCP sockets of a network namespace, and the memory of each (sock_diag(7)).

The kernel names them to root, those too that are in no file: connections that nobody has accepted
yet, and those that were closed before the other end was.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 4, 5, 8, 9, 10, 11
"""States (tcp_states.h)."""

_STATES = sum(
    1 << state
    for state in (ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING)
)
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST_DUMP, _ERROR, _DONE = 0x301, 2, 3  # NLM_F_REQUEST | NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE
_SKMEMINFO = 7  # INET_DIAG_SKMEMINFO
_HEAD = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2
_MESSAGE = struct.Struct("=BBxx48xIIIII")  # struct inet_diag_msg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_MEMORY = struct.Struct("=9I")  # enum of SK_MEMINFO_VARS in linux/sock_diag.h
_BUFFER = 1 << 16


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """A socket.

    state   one of the states above
    inode   of its file; 0 when it is in none
    queue   of a listening socket: the connections that nobody has accepted
    memory  bytes of its buffers, as the kernel counts them for net.ipv4.tcp_mem
    """

    state: int
    inode: int
    queue: int
    memory: int


def tcp_sockets() -> Iterator[TcpSocket]:
    """All sockets in this network namespace but those in TIME_WAIT. Raises OSError: a kernel
    without CONFIG_INET_DIAG."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as link:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << _SKMEMINFO - 1, _STATES)
            size = _HEAD.size + len(request)
            link.send(_HEAD.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0) + request)
            yield from _answers(link)


def _answers(link: socket.socket) -> Iterator[TcpSocket]:
    while True:
        data = link.recv(_BUFFER)
        at = 0
        while at < len(data):
            size, kind, *_ = _HEAD.unpack_from(data, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                code = -struct.unpack_from("=i", data, at + _HEAD.size)[0]
                raise OSError(code, os.strerror(code))
            yield _socket(data, at + _HEAD.size, at + size)
            at += size + 3 & ~3


def _socket(data: bytes, at: int, end: int) -> TcpSocket:
    _, state, _, queue, _, _, inode = _MESSAGE.unpack_from(data, at)
    at += _MESSAGE.size
    memory = 0
    while at < end:
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if kind == _SKMEMINFO:
            received, _, _, _, reserved, queued, *_ = _MEMORY.unpack_from(
                data, at + _ATTRIBUTE.size
            )
            memory = received + reserved + queued
        at += size + 3 & ~3
    return TcpSocket(state, inode, queue, memory)
