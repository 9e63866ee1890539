"""The means of all groups: how much to measure, the daemons, the progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .cpu_group import CpuGroup
from .daemon import Daemon, daemon, settings_of
from .progress import Progress
from .sandboxes import Act

PAUSE_S = 0.006
"""Pause before a measured act: users meet an idle machine, and a tight loop hides the cost of a
wake-up."""

SLOTS = 128


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured.

    rounds         of the latencies
    load_rounds    of the loads by several clients
    load_s         seconds of one load
    cpu_runs       runs between two readings of CPU time
    sessions       sessions at rest, step by step
    processes      foreign processes
    creates        creations at each step
    repetitions    of a system call, upload, compiler
    rest_s         seconds at rest
    """

    rounds: int = 200
    load_rounds: int = 3
    load_s: float = 2.0
    cpu_runs: int = 100
    sessions: tuple[int, ...] = (1, 10, 100, 300, 1000)
    processes: int = 8000
    creates: int = 15
    repetitions: int = 15
    rest_s: float = 20.0


QUICK = Amount(
    rounds=12, load_rounds=1, load_s=0.4, cpu_runs=15, sessions=(1, 10, 40), processes=1000,
    creates=5, repetitions=3, rest_s=3.0,
)  # fmt: skip


@dataclass
class Bench:
    """The things that the groups share. `stack` ends the daemons."""

    amount: Amount
    stack: contextlib.ExitStack
    progress: Progress = field(default_factory=Progress)
    _daemons: dict[str, Daemon] = field(default_factory=dict)
    _count: int = 0

    def daemon(self, state: str) -> Daemon:
        """The daemon whose runs meet this state. States with the same settings share it."""
        key = str(settings_of(state))
        if key not in self._daemons:
            self._daemons[key] = self.stack.enter_context(self.new_daemon(state, SLOTS))
        return self._daemons[key]

    def new_daemon(self, state: str, slots: int) -> contextlib.AbstractContextManager[Daemon]:
        """A daemon for one group alone."""
        self.progress.show("starting a daemon")
        self._count += 1
        return daemon(self._count - 1, state, slots)

    @contextlib.contextmanager
    def cpu_group(self) -> Iterator[CpuGroup]:
        """A group for a process of this benchmark."""
        group = CpuGroup("others")
        try:
            yield group
        finally:
            group.remove()


def timed_ms(act: Act) -> float:
    """Milliseconds of one act."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def interleaved(
    acts: dict[str, Act],
    rounds: int,
    progress: Callable[[str], object],
    before: dict[str, Act] | None = None,
) -> dict[str, tuple[float, ...]]:
    """Milliseconds of each act in each round; a first round warms up and does not count. The act
    of the same name in `before` precedes it, unmeasured."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds + 1):
        progress(f"round {number} of {rounds}")
        for name, act in acts.items():
            if before and name in before:
                before[name]()
            time.sleep(PAUSE_S)
            elapsed = timed_ms(act)
            if number:
                times[name].append(elapsed)
    return {name: tuple(values) for name, values in times.items()}
