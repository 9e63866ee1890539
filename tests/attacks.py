"""The attacks of the self-test, carried out in a slot of the tests' own warden, without API."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sandboxd.jail import syscalls
from sandboxd.selftest import host_view
from sandboxd.selftest.attack import NAMES, Attack, AttackOutcome, Judgement, judge, source
from sandboxd.selftest.runner import ATTACKS, PYTHON
from sandboxd.warden.runs.connection_watch import ConnectionWatch
from sandboxd.warden.runs.cpu_hold import CpuHolds
from sandboxd.warden.runs.lock_watch import LockWatch
from sandboxd.warden.runs.worker import Worker

from .sandbox import BareWarden, Sandbox, lease

BY_NAME = {attack.name: attack for attack in ATTACKS}
NUMBERS = syscalls.syscall_numbers(NAMES)


@dataclass
class HostLook:
    """The host's look at a program that waits for its line: breaches and footprints."""

    attack: Attack
    token: str
    breaches: list[str] = field(default_factory=list)
    footprints: set[host_view.Footprint] = field(default_factory=set)

    def __call__(self, started: Worker) -> None:
        if not self.attack.looks:
            return
        pids = host_view.find(self.token)
        assert pids, "the host does not find the program, which waits"
        self.footprints.update(one for one in map(host_view.footprint, pids) if one)
        self.breaches += [one for pid in pids for one in host_view.look(self.attack.looks, pid)]
        if self.attack.kind == "persistence":
            os.kill(started.pid, signal.SIGKILL)  # the shim, as at the end of a session


@contextlib.contextmanager
def watched(workers: list[Worker]) -> Iterator[None]:
    """The runs of `workers` are watched as the warden's loop does."""
    over, holds = threading.Event(), CpuHolds()
    watches = [
        kind(lambda name, work, done, keep: done(work()), lambda: workers, holds)
        for kind in (LockWatch, ConnectionWatch)
    ]

    def look() -> None:
        while not over.wait(min(watch.due_in() for watch in watches)):
            for watch in watches:
                watch.maintain()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def carry_out(
    sandbox: Sandbox, canaries: host_view.Canaries, attack: Attack
) -> tuple[AttackOutcome, set[host_view.Footprint]]:
    """Run the attack as the self-test does."""
    list(canaries.touched())
    look = HostLook(attack, f"token-{time.monotonic_ns()}")
    program = source(attack.program, NUMBERS, canaries.canary, canaries.digest, look.token)
    limits: dict[str, Any] = {"wall_s": attack.timeout}
    if "mem" in attack.resources:
        limits["memory"] = int(attack.resources["mem"].rstrip("m")) << 20
    limits |= {name: value for name, value in attack.resources.items() if name != "mem"}
    steps: dict[str, Any] = {"exec": None}
    steps[attack.step] = f"exec {PYTHON} -I -c {shlex.quote(program)}"
    answers: list[str | None] = ["go\n"] if attack.looks else [None]
    if attack.kind == "persistence":
        answers = []  # the host ends the shim while the program waits
    started: list[Worker] = []
    with watched(started):
        result = sandbox.run(
            **steps, answers=answers, on_wait=look, while_running=started.append, **limits
        )
    assert bool(look.footprints) == bool(attack.looks), result.stderr
    events = [event for event in result.events if event.get("step") == attack.step]
    verdict: dict[str, Any] = events[0].get("verdict", {}) if events else {}
    stdout = result.stdout + ("\nheld\n" if attack.kind == "persistence" else "")
    outcome = AttackOutcome(
        stdout, result.stderr, events[0]["exit"] if events else None,
        str(verdict.get("outcome")), verdict.get("limit"),
        (*look.breaches, *canaries.touched()),
    )  # fmt: skip
    return outcome, look.footprints


def carry_out_in_session(
    warden: BareWarden, canaries: host_view.Canaries, attack: Attack
) -> Judgement:
    """Run the attack in a session of its own, and look for remains when the session is gone."""
    with contextlib.ExitStack() as stack:
        if attack.before:
            other = lease(warden)
            stack.callback(warden.free, other.slot)
            before = replace(attack, program=attack.before, looks="nothing")
            assert judge(before, carry_out(other, canaries, before)[0]).held
        sandbox = lease(warden)
        stack.callback(warden.free, sandbox.slot)
        outcome, footprints = carry_out(sandbox, canaries, attack)
    remains = tuple(what for one in footprints for what in host_view.remains(one))
    return judge(attack, replace(outcome, host=(*outcome.host, *remains)))
