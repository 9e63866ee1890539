"""A watch over the locks of runs, with memory, a clock and a shim of the test's own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sandboxd.errors import StageError
from sandboxd.jail.cgroup import Group
from sandboxd.warden.job_process import JobSpec
from sandboxd.warden.runs.cpu_hold import CpuHolds
from sandboxd.warden.runs.lock_watch import LockMemory, LockWatch
from sandboxd.warden.runs.run_watch import LOOK_S
from sandboxd.warden.runs.worker import Worker
from sandboxd.warden.slots.slots import Slot
from sandboxd.warden.uid_lease import UidLease
from sandboxd.wire import messages


class MemoryOfTest(LockMemory):
    """The memory of a kernel of the test's own."""

    def __init__(self) -> None:
        self.size, self.anonymous = 0, False

    def bytes(self) -> int:
        return self.size

    def is_urgent(self) -> bool:
        return self.anonymous


class Clock:
    """The time of the test's own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class World:
    """A watch with one run, whose shim listens, and the counts that it has begun."""

    def __init__(self, directory: str, clock: Clock) -> None:
        path = Path(directory, "runs", "3")
        path.mkdir(parents=True)
        self.shim = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.shim.bind(str(path / "control"))
        self.shim.listen(4)
        self.shim.setblocking(False)
        self.clock, self.memory = clock, MemoryOfTest()
        self.process = subprocess.Popen(["sleep", "60"])
        self.directory = directory
        slot = self.slot()
        self.quota = Path(directory, "7.3", "cpu.max")
        self.quota.parent.mkdir()
        self.quota.write_text("100000 100000\n")
        self.run = Worker(self.process.pid, slot, 3, Group({"": str(self.quota.parent)}))
        self.helper = Worker(1, slot)
        self.warm = Worker(1, slot, None, Group({"pids": "/nonexistent/7.2"}))
        self.counts: list[tuple[JobSpec, Callable[[Any], None]]] = []
        self.is_full = False
        self.others: list[Worker] = []
        self.watch = LockWatch(
            self.begin,
            lambda: [self.run, self.helper, self.warm, *self.others],
            CpuHolds(),
            self.memory,
        )

    def slot(self) -> Slot:
        return Slot(7, 7, self.directory, "session", UidLease(7, -1))

    def begin(
        self, name: str, work: Callable[[], Any], done: Callable[[Any], None], keep: Sequence[int]
    ) -> None:
        if self.is_full:
            raise StageError("fork", "no process can be made", 11)
        assert isinstance(work, JobSpec) and not keep
        self.counts.append((work, done))

    def look(self, after_s: float = LOOK_S) -> int:
        """Look once more; how many counts have been begun."""
        self.clock.now += after_s
        self.watch.maintain()
        return len(self.counts)

    def answer(self, over: dict[str, int] | None = None, unclear: Sequence[str] = ()) -> None:
        """The last count has this result."""
        self.counts[-1][1]({"over": over or {}, "unclear": list(unclear)})

    def request(self) -> dict[str, Any] | None:
        """The next request that the shim has got."""
        try:
            sock, _ = self.shim.accept()
        except BlockingIOError:
            return None
        with sock:
            return messages.receive(sock)[0]

    def fill(self, stack: contextlib.ExitStack) -> None:
        """Have as many connections wait for the shim as may."""
        with contextlib.suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                client.setblocking(False)
                client.connect(f"{self.directory}/runs/3/control")

    def close(self) -> None:
        self.shim.close()
        self.process.kill()
        self.process.wait()
