"""The calls for which the kernel takes memory that no cgroup counts. No I/O.

A program that may make them without end takes the memory of the whole host, whatever the limit of
its run is. The profile refuses those that programs can do without, and leaves the others to the
shim, which carries out a bounded number (shim/bounded_calls.py).
"""

from __future__ import annotations

import errno

_IP, _TCP, _IPV6 = 0, 6, 41
UNCOUNTED = {
    _IPV6: {
        "IPV6_2292PKTOPTIONS": 6, "IPV6_FLOWLABEL_MGR": 32, "IPV6_RTHDR": 57,
    },
    _TCP: {
        "TCP_MD5SIG": 14, "TCP_ULP": 31, "TCP_MD5SIG_EXT": 32, "TCP_AO_ADD_KEY": 38,
        "TCP_AO_INFO": 40,
    },
}  # fmt: skip
"""Options of sockets for which the kernel takes memory that no cgroup counts, of each socket up to
128 KiB (net.core.optmem_max): 1,500 sockets had 90 MB with 4 MB of their run's memory. Flow labels
have one bound for the whole host. Programs meet kernels without these options."""
ERROR_QUEUE = {"SO_TIMESTAMPING": 37, "SO_ZEROCOPY": 60, "SO_TIMESTAMPING_NEW": 65}
"""Options of SOL_SOCKET for reports that wait in a socket, up to 208 KiB that no cgroup counts."""
ERRORS = {_IP: {"IP_RECVERR": 11}, _IPV6: {"IPV6_RECVERR": 25}}
"""Options for such reports that the resolver of the C library must be able to set. The answer is 0,
and no report comes. A connected socket has its errors without them (ip(7))."""
ANSWERS = ((errno.ENOPROTOOPT, UNCOUNTED), (0, ERRORS))
"""The errno of these options."""
JOINS = {
    _IP: {
        "IP_ADD_MEMBERSHIP": 35, "IP_BLOCK_SOURCE": 38, "IP_ADD_SOURCE_MEMBERSHIP": 39,
        "IP_MSFILTER": 41, "MCAST_JOIN_GROUP": 42, "MCAST_BLOCK_SOURCE": 43,
        "MCAST_JOIN_SOURCE_GROUP": 46, "MCAST_MSFILTER": 48,
    },
    _IPV6: {
        "IPV6_JOIN_GROUP": 20, "IPV6_JOIN_ANYCAST": 27, "MCAST_JOIN_GROUP": 42,
        "MCAST_BLOCK_SOURCE": 43, "MCAST_JOIN_SOURCE_GROUP": 46, "MCAST_MSFILTER": 48,
    },
}  # fmt: skip
"""Memberships of multicast groups, and their sources: memory that no cgroup counts, either."""
OFD_LOCKS = (37, 38)
"""F_OFD_SETLK and F_OFD_SETLKW of fcntl(2): locks that belong to an open file. The kernel has about
200 bytes of each lock. An open file that is only mapped or on its way through a socket is in no
table of a process, so the count of locks (warden/runs/lock_count.py) would miss its locks."""
WAITS = {"poll": 1, "ppoll": 1, "select": 0, "pselect6": 0}
"""Call -> the argument with the number of descriptors that it waits for. While the call waits, the
kernel has 72 bytes of each: 100 threads with 15,000 each had 90 MB. A higher number than WAIT_MAX
is answered as if the limit of open files were lower; epoll(7) has no such table."""
WAIT_MAX = 0x7FF
ATTRIBUTES = {"setxattr": 3, "lsetxattr": 3, "fsetxattr": 3}
"""Call -> the argument with the size of an extended attribute. The kernel has the access list of an
open file in memory, up to 64 KiB: 400 files in memory had 20 MB. The file system of a session has
no room for attributes above ATTRIBUTE_MAX. The shim carries out a bounded number of those above a
quarter of it."""
ATTRIBUTE_MAX = 0xFFF
LARGE_ATTRIBUTE = "setxattr (1 KiB or more)"
MULTICAST, NETLINK = "setsockopt (multicast)", "socket (netlink)"
FILE_LOCK = "fcntl (F_OFD_SETLK)"
"""The names of the calls that are bounded."""

LOCKS_MAX = 100_000
"""Locks on files that a run may hold at one time: 20 MB of the kernel's memory."""
ANONYMOUS_LOCKS_MAX = 64
"""Those of them on the inode that all eventfds, epolls, timers and the like of the host share. The
kernel searches all locks of an inode when a descriptor of it is closed: 100,000 locks of one run
took each such call of each program of the host 2 ms. Programs have no use for them."""

CONNECTIONS_MAX = 32 << 20
"""Bytes of a run's TCP connections that nobody has accepted yet. Ten thousand empty ones have as
much, or a few hundred full ones."""
ORPHANS_SHARE = 8
"""The part of net.ipv4.tcp_max_orphans that a run may have: connections that were closed and still
wait for the other end. When all together are more than that, the kernel resets each that somebody
closes, and what was on its way is lost."""
