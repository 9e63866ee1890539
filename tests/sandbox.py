"""A warden without api and HTTP: leases a slot and does runs in it, for real, as root.

Shims are forked from the test's own process, so a test can take a protection away with
monkeypatch and see the attack succeed that the protection is there to stop.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sandboxd import config_file, spool, wire
from sandboxd.config import STEP_LIMITS
from sandboxd.model import STEPS, Limits
from sandboxd.warden.requests import Requests, Worker
from sandboxd.warden.runs.cgroups import Hierarchy
from sandboxd.warden.slots.leases import Slot

from .waiting import PATIENCE_S

TEST_UIDS = 1_000_000 + os.getpid() % 1000 * 256
"""First uid of the slots of this process: apart from those of daemons and of other test runs."""


@dataclass
class Result:
    """A run that is over: its journal, and its console by stream."""

    events: list[dict[str, Any]]
    stdout: str = ""
    stderr: str = ""
    waited: int = 0
    lost: int = 0

    @property
    def last(self) -> dict[str, Any]:
        """The final event."""
        return self.events[-1]

    @property
    def exit(self) -> int | None:
        """The exit code of the last step."""
        code: int | None = self.last["exit"]
        return code

    @property
    def verdict(self) -> dict[str, Any]:
        """The verdict of the last step."""
        found: dict[str, Any] = self.last["verdict"]
        return found


@dataclass
class Sandbox:
    """One leased slot."""

    requests: Requests
    slot: Slot
    limits: Limits = field(
        default_factory=lambda: replace(STEP_LIMITS, wall_s=20, memory=256 << 20, pids=64)
    )
    runs: int = 0

    def run(
        self,
        exec: str | None,
        *,
        build: str | None = None,
        clean: str | None = None,
        answers: list[str | None] | None = None,
        stdin: bytes | None = None,
        environ: dict[str, str] | None = None,
        while_running: Callable[[Worker], None] | None = None,
        on_wait: Callable[[Worker], None] | None = None,
        per_step: dict[str, dict[str, Any]] | None = None,
        runtime: str = "",
        **limits: Any,
    ) -> Result:
        """Do a run to its end. When it waits for input, `on_wait` is called, and then it gets the
        next of `answers`; None is the end of input."""
        self.runs += 1
        limit = asdict(replace(self.limits, **limits))
        own = per_step or {}
        commands = dict(zip(STEPS, (clean, build, exec), strict=True))
        steps = [
            {"name": n, "command": c, "limits": limit | own.get(n, {})} for n, c in commands.items()
        ]
        request = {
            "slot": self.slot.number, "session": self.slot.session, "run": self.runs,
            "shell": "/bin/bash", "steps": steps, "environ": environ or {},
            "runtime": runtime,
        }  # fmt: skip
        given = _file(stdin) if stdin is not None else None
        started, fds = self.requests.start(request, given)
        if given is not None:
            os.close(given)
        try:
            if while_running:
                while_running(started)
            waited = _follow(
                fds[0], list(answers or []), lambda: on_wait(started) if on_wait else None
            )
            os.waitpid(started.pid, 0)
            return self._result(fds, waited)
        finally:
            wire.close_all(fds[1:])
            self.end(started)

    def _result(self, fds: list[int], waited: int) -> Result:
        keep = self.requests.config.console
        result = Result(spool.read_events(fds[2]), waited=waited)
        texts: dict[int, list[str]] = {spool.STDOUT: [], spool.STDERR: []}
        for record, _ in spool.ConsoleReader(fds[1], keep.head, keep.tail).read(
            spool.SpoolPosition(), 1 << 60
        ):
            result.lost += record.lost
            texts[record.stream].append(record.text)
        result.stdout, result.stderr = ("".join(texts[n]) for n in (spool.STDOUT, spool.STDERR))
        return result

    def end(self, started: Worker) -> None:
        """Remove what a run leaves to its warden; fails when its cgroup does not get empty."""
        self.slot.runs.pop(started.run or 0, None)
        assert started.group
        started.group.kill()
        deadline = time.monotonic() + PATIENCE_S
        while not started.group.remove():
            assert time.monotonic() < deadline, f"left in the cgroup: {started.group.members()}"
            time.sleep(0.01)


def _follow(fd: int, answers: list[str | None], on_wait: Callable[[], object]) -> int:
    """Be the reader of a run until it is over; how often it was seen to wait for input."""
    state: dict[str, Any] = {"console": 0, "journal": 0, "waiting": False}
    waited = 0
    with socket.socket(fileno=fd) as control:
        control.setblocking(True)  # the api, whose it is, does not wait on it
        while True:
            try:
                wire.send(control, {"op": "watch"} | state)
                message, _ = wire.receive(control)
            except OSError:
                return waited
            if message is None:
                return waited
            if message["waiting"] and not state["waiting"]:
                waited += 1
                on_wait()
                if answers:
                    text = answers.pop(0)
                    wire.send(control, {"op": "input", "text": text or "", "eof": text is None})
                    message["waiting"] = False
            state = message


def _file(data: bytes) -> int:
    fd = os.memfd_create("stdin")
    os.write(fd, data)
    readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    return readable


def make_requests(state_dir: str, **tables: Any) -> Requests:
    """A warden's acts, with a state directory and cgroups of its own."""
    tables = {"slots": {"first_uid": TEST_UIDS, "count": 64}} | tables
    loaded = config_file.load(None, state_dir=state_dir, **tables)
    return Requests(loaded, Hierarchy.find(f"sandboxd-test-{os.getpid()}"))


def restarted(slot: Slot, requests: Requests, **arguments: Any) -> tuple[Slot, list[Worker]]:
    """`slot` and what runs in it, as a warden has it that is started after this one."""
    requests.folders.take_back(slot)
    requests.scratch.unmount(slot.path)
    slot.lock.close()
    del requests.slots.leased[slot.number]
    found, error = requests.adopt({"slot": slot.number, "session": slot.session} | arguments)
    assert error is None
    return requests.slots.leased[slot.number], found


def lease(
    requests: Requests,
    size: int = 64 << 20,
    inodes: int = 4096,
    mounts: list[dict[str, Any]] | None = None,
) -> Sandbox:
    """A slot for a test; `requests.free(sandbox.slot)` gives it back."""
    request = {
        "session": str(uuid.uuid4()), "size": size, "inodes": inodes, "mounts": mounts or [],
    }  # fmt: skip
    slot, make = requests.lease(request)
    try:
        make()
    except BaseException:
        requests.free(slot)
        raise
    slot.ready = True
    return Sandbox(requests, slot)
