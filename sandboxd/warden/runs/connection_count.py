"""The count of the TCP connections of each run that are in no open file.

The kernel makes the socket of a connection before a program accepts it, and charges nobody for it
until then: neither for the socket nor for what has arrived. A program can connect to itself, send,
and close its own end. That end goes on without a file until the other one has taken all. Its cgroup
is charged for it, but the host has one bound for the number of these (net.ipv4.tcp_max_orphans).

The kernel names these sockets with their memory (host/tcp_sockets.py). A connection that the other
end has reset before it was accepted is in no list, and only the queue of its listening socket
counts it. It may have as much memory as a buffer can (`most_buffer`), and all of these together
have no more than the memory that no socket in a list has.

A program can hand its sockets to another run of its session, whose process then has sockets of
a namespace that is none of a run. While much memory is in no list, also in none of the networks of
the host's own programs, the sockets of all processes of runs are looked at for that
(socket_networks.py), a bounded number at a time (turns.py).

The count is the work of a background job, in the network namespace of each run after the other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...host import cgroupfs, procfs, tcp_sockets
from ...host.tcp_sockets import CLOSE_WAIT, ESTABLISHED, LISTEN
from ...jail import syscalls
from ...jail.network import RECEIVE_MAX
from ...jail.uncounted_memory import CONNECTIONS_MAX, ORPHANS_SHARE
from .socket_networks import other_networks
from .turns import Unfinished, in_slices, take_turns

SOCKET = 3072
"""Bytes of a socket of TCP and of the request that it was made from."""

LEAST_ORPHANS = 8192
"""net.ipv4.tcp_max_orphans of a host with 2 GiB of memory: half the entries of the table of
connections, which has one for each 128 KiB (tcp_init in net/ipv4/tcp.c)."""

SOCKETS_A_UNIT = 4
"""Sockets that take as long as a descriptor (turns.py)."""

SOCKSTAT = "/proc/net/sockstat"
_UNUSED = "sockets: used 0\n"


@dataclass(slots=True)
class TcpConnections:
    """The connections of a network namespace.

    memory   bytes of all its sockets
    waiting  bytes of those that nobody has accepted
    reset    number of those that were reset before they were accepted
    orphans  number of those that were closed before the other end was
    """

    memory: int = 0
    waiting: int = 0
    reset: int = 0
    orphans: int = 0


def count_connections(groups: dict[str, str], most: int) -> dict[str, Any]:
    """`over`: the runs that have more connections in no file than they may, with the bytes of those
    that nobody has accepted. `unclear`: runs of which that cannot be said before all are looked at;
    after `most` units (turns.py) some were not.

    `groups` has the directory of a cgroup of each run, by the name of the group.
    """
    orphans = most_orphans()
    runs = {name: TcpConnections() for name in groups}
    unfinished, elsewhere = _look(runs, groups, most)
    over = {
        name: run.waiting
        for name, run in runs.items()
        if run.waiting > CONNECTIONS_MAX or run.orphans > orphans or name in unfinished.excessive
    }
    rest = _rest(runs, elsewhere)
    full = {name: run.waiting + min(run.reset * most_buffer(), rest) for name, run in runs.items()}
    by_reset = {name: size for name, size in full.items() if size > CONNECTIONS_MAX}
    if unfinished == Unfinished([], []):
        return {"over": by_reset | over, "unclear": []}
    unclear = dict.fromkeys((*unfinished.unclear, *by_reset))  # the rest may be in others' sockets
    return {"over": over, "unclear": [name for name in unclear if name not in over]}


def _look(
    runs: dict[str, TcpConnections], groups: dict[str, str], most: int
) -> tuple[Unfinished, int]:
    """Look at the networks of runs, and then, if much memory is in none, at their descriptors; and
    the bytes of TCP that programs of the host have."""
    unfinished = take_turns(
        {one: _own_network(run, groups[one]) for one, run in runs.items()}, most
    )
    if unfinished.unclear:
        return unfinished, 0
    elsewhere = _elsewhere(runs, groups)
    if _rest(runs, elsewhere) > CONNECTIONS_MAX:
        known, excessive = _networks(groups), unfinished.excessive
        looks = {
            one: _add_handed_on(run, groups[one], known)
            for one, run in runs.items()
            if one not in excessive
        }
        last = take_turns(looks, most)
        unfinished = Unfinished(last.unclear, excessive + last.excessive)
    return unfinished, elsewhere


def _rest(runs: dict[str, TcpConnections], elsewhere: int) -> int:
    """Bytes of TCP that the sockets of no run and of no program of the host have."""
    return max(0, tcp_memory() - elsewhere - sum(run.memory for run in runs.values()))


def _elsewhere(runs: dict[str, TcpConnections], groups: dict[str, str]) -> int:
    """Bytes of TCP that programs of the host have. All networks of it are looked at only when the
    memory of TCP is not the daemon's own: it may have other containers."""
    memory = connections().memory
    if _rest(runs, memory) > CONNECTIONS_MAX:
        known = _networks(groups)
        for pid in procfs.pids():
            with contextlib.suppress(*procfs.ENDED):
                inode = os.stat(f"/proc/{pid}/ns/net").st_ino
                if inode not in known:
                    known.add(inode)
                    with network_of(pid):
                        memory += connections().memory
    return memory


def _networks(groups: dict[str, str]) -> set[int]:
    """The inodes of the networks of this process and of the runs."""
    known = set[int]()
    members = (pid for directory in groups.values() for pid in cgroupfs.members(directory))
    for pid in (os.getpid(), *members):
        with contextlib.suppress(*procfs.ENDED):
            known.add(os.stat(f"/proc/{pid}/ns/net").st_ino)
    return known


def connections() -> TcpConnections:
    """Those of this network namespace."""
    seen = TcpConnections()
    for _ in _add_sockets(seen):
        pass
    return seen


def _add_sockets(seen: TcpConnections) -> Iterator[int]:
    """Add the sockets of the network namespace that this thread is in at the first step, and return
    the units of each step."""
    reset = 0
    for number, one in enumerate(tcp_sockets.tcp_sockets()):
        seen.memory += one.memory
        if one.state == LISTEN:
            reset += one.queue
        elif one.inode == 0 and one.state in (ESTABLISHED, CLOSE_WAIT):
            seen.waiting += one.memory + SOCKET
            reset -= 1
        elif one.inode == 0:
            seen.orphans += 1
        if number % SOCKETS_A_UNIT == 0:
            yield 1
    reset = max(0, reset)
    seen.reset += reset
    seen.waiting += reset * SOCKET


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """This thread is in the network namespace of a process meanwhile. Raises OSError, also when the
    process has ended."""
    with _namespace(str(pid)) as other, _inside(other):
        yield


@contextlib.contextmanager
def _inside(network: int) -> Iterator[None]:
    with _namespace("thread-self") as own:
        syscalls.setns(network, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWNET)


@contextlib.contextmanager
def _namespace(process: str) -> Iterator[int]:
    fd = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def tcp_memory() -> int:
    """Bytes of the buffers of all sockets of TCP of the host."""
    return sockstat_value(procfs.read(SOCKSTAT), "mem") * os.sysconf("SC_PAGE_SIZE")


def sockstat_value(text: str, name: str) -> int:
    """A number of the line of TCP."""
    words = text.partition("\nTCP:")[2].partition("\n")[0].split()
    return int(words[words.index(name) + 1]) if name in words else 0


def most_orphans() -> int:
    """The connections that a run may have closed before the other end: a part of the host's."""
    return _setting("ipv4/tcp_max_orphans", LEAST_ORPHANS) // ORPHANS_SHARE


def most_buffer() -> int:
    """Bytes that can wait in a socket: the kernel doubles what a program asks for."""
    return max(2 * _setting("core/rmem_max", RECEIVE_MAX), RECEIVE_MAX)


def _setting(name: str, default: int) -> int:
    """A setting of the host's network, or `default`: a network namespace, as a container has one,
    does not show it."""
    with contextlib.suppress(FileNotFoundError):
        return int(procfs.read(f"/proc/sys/net/{name}"))
    return default


def _own_network(run: TcpConnections, directory: str) -> Iterator[int]:
    """Add the sockets of the network of a run, and return the units of each step; none when it has
    ended meanwhile."""
    for pid in cgroupfs.members(directory):
        look = _add_sockets(run)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if procfs.read(f"/proc/{pid}/net/sockstat").startswith(_UNUSED):
                return
            with network_of(pid):
                units = next(look, 0)
            yield units
            yield from look
            return


def _add_handed_on(run: TcpConnections, directory: str, known: set[int]) -> Iterator[int]:
    """Add to a run the connections in namespaces of runs that are over, whose sockets it has. The
    units of each descriptor are returned."""
    tables = (other_networks(pid, known) for pid in cgroupfs.members(directory))
    for network in in_slices(tables):
        if network is not None:
            look = _add_sockets(run)
            with _inside(network):
                units = next(look, 0)
            yield units
            yield from look
        yield 1
