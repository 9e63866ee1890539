"""The watch over connections that are in no file: when it has the runs counted."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sandboxd.warden.job_process import JobSpec
from sandboxd.warden.requests.slot_jobs import FUNCTIONS
from sandboxd.warden.runs import run_watch
from sandboxd.warden.runs.connection_count import SOCKET
from sandboxd.warden.runs.connection_watch import ConnectionMemory, ConnectionWatch
from sandboxd.warden.runs.cpu_hold import CpuHolds

from ...waiting import until

TEXT = (
    "sockets: used 54\nTCP: inuse 3 orphan {orphans} tw 7 alloc {sockets} mem {pages}\n"
    "UDP: inuse 2 mem 5\n"
)


class Memory(ConnectionMemory):
    """The memory of a kernel of the test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.text = TEXT.format(orphans=0, sockets=3, pages=69)

    def _text(self) -> str:
        return self.text


def begun(memory: Memory, text: str) -> list[str]:
    """The jobs that begin when the kernel says `text` after the first look."""
    names: list[str] = []

    def begin(
        name: str, work: Callable[[], Any], done: Callable[[Any], None], keep: Sequence[int]
    ) -> None:
        assert isinstance(work, JobSpec) and work.function in FUNCTIONS and not keep
        names.append(name)

    watch = ConnectionWatch(begin, lambda: [], CpuHolds(), memory)
    memory.text = text
    watch.maintain()
    return names


@pytest.mark.parametrize(
    ("orphans", "sockets", "pages", "counts"),
    [
        (0, 3, 69 + run_watch.STEP // 4096, 1),
        (0, 3 + run_watch.STEP // SOCKET + 1, 69, 1),
        (1 << 24, 3, 69, 1),
        (0, 9, 99, 0),
    ],
)
def test_runs_are_counted_when_buffers_sockets_or_closed_connections_of_the_host_have_grown(
    orphans: int, sockets: int, pages: int, counts: int
) -> None:
    memory = Memory()
    text = TEXT.format(orphans=orphans, sockets=sockets, pages=pages)
    assert begun(memory, text) == ["count connections"] * counts
    memory.close()


def test_kernel_says_how_much_memory_connections_have() -> None:
    memory = ConnectionMemory()
    before = memory.bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients = [socket.create_connection(server.getsockname()) for _ in range(50)]
        # two sockets each, and other programs of the host end some
        until(lambda: memory.bytes() - before > 50 * SOCKET)
        for client in clients:
            client.close()
    memory.close()
