"""The broker of a warden, seen from the warden: its start, its end, and the links to runs.

The warden starts a broker while the configuration has a profile. A run gets a link to the broker:
one end of a socket goes to the broker, with the words whose run that is, and the other end to the
shim, on the control socket of the run, which no program can reach. The shim then sends its
listening socket through the link (shim/broker_socket.py). So no byte of a connection, and no
descriptor of one, comes to the warden.

A broker that ends is started again after a moment, and one that does not answer is killed. Where
none can be started, the runs know: their shims turn connections away until there is a link. Each
new broker gets links to all runs. A link that is lost, since the socket of the broker is full or
the broker can open no more descriptors, is made again after a moment. A change of the profiles is a
new broker, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from ... import log
from ...config.settings import STEP_LIMITS
from ...errors import StageError
from ...model import MIB
from ...wire import control_ops, messages
from ..doctor.checks import broker_uid
from ..interpreter import Interpreter
from ..runs import control_socket
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots.slots import Slot
from . import broker_process
from .broker_process import BrokerSpec

RESTART_S = 1.0
"""Between two starts of a broker, and before a lost link is made again."""

PING_S, SILENCE_S, START_S = 10.0, 30.0, 120.0
"""How often a broker is asked for its counts, and when a silent one is killed: later at its start,
which loads modules from a disk that may be slow."""

LIMITS = dataclasses.replace(STEP_LIMITS, memory=1536 * MIB, pids=broker_process.TASKS)
"""The limits of its cgroup. Each of CONNECTIONS_MAX connections may hold a relay.CHUNK in each
direction while both ends read slowly, 1000 MiB together: no tenant may have it killed."""

OUTCOMES_MAX = 32


class BrokerLink:
    """The broker of one warden. `workers` has all workers of this moment.

    counts  the counts of its last answer, those of earlier brokers included
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        resources: Resources,
        workers: Callable[[], Sequence[Worker]],
    ) -> None:
        self._process = Interpreter("broker", selector, self._hear, self._forget)
        self.collected, self.stop = self._process.collected, self._process.stop
        self._resources = resources
        self._workers = workers
        self._spec: BrokerSpec | None = None
        self._start_at = self._ping_at = self._heard_at = self._link_at = 0.0
        self._lost: set[tuple[str, int]] = set()
        self._before: dict[str, int] = {}
        self._own: dict[str, int] = {}
        self._is_closed = False
        self._answers = self._is_missing = False

    # -- the process

    def maintain(self) -> None:
        """Do what is due: start a broker, end one with other profiles, or one that is silent."""
        network, now = self._resources.config.network, time.monotonic()
        wanted = bool(network.profiles) and not self._is_closed
        if self._spec and (not wanted or self._spec.network != network):
            self._answers = True
            self.stop()
            self._start_at = now
        if wanted and not self._process.runs and now >= self._start_at:
            self._start(now)
        if self._process.runs and now >= self._ping_at:
            self._ping(now)
        if self._lost and self._process.runs and now >= self._link_at:
            self._link_again()

    def due_in(self) -> float | None:
        """Seconds until `maintain` has something to do; None: nothing but an event does that."""
        if self._is_closed or not self._resources.config.network.profiles:
            return None
        at = self._ping_at if self._process.runs else self._start_at
        if self._lost and self._process.runs:
            at = min(at, self._link_at)
        return max(0.0, at - time.monotonic())

    def _start(self, now: float) -> None:
        self._start_at = now + RESTART_S
        try:
            spec = self._make_spec()
            module = broker_process.__name__
            self._process.start(module, spec.write(), broker_process.ENVIRON)
        except (OSError, StageError) as error:
            log.event("broker.failed", logging.ERROR, error=str(error))
            self._start_at = now + SILENCE_S
            self._miss()
            return
        self._spec, self._answers = spec, False
        self._heard_at, self._ping_at = now + START_S, now
        if not self._is_missing:
            self._link_all()

    def _make_spec(self) -> BrokerSpec:
        resources = self._resources
        config = resources.config
        group = resources.hierarchy.broker_group()
        group.open()
        try:
            group.limit(LIMITS)
        finally:
            group.close()
        return BrokerSpec(
            config.network, broker_uid(config), config.state_dir, dict(group.dirs), config.log,
            config.log_level,
        )  # fmt: skip

    def _ping(self, now: float) -> None:
        self._ping_at = now + PING_S
        if now - self._heard_at > SILENCE_S:
            log.event("broker.silent", logging.ERROR, pid=self._process.pid)
            self.stop()
            return
        with contextlib.suppress(OSError):  # full, or at its end: the silence or the end is seen
            self._process.send({"ping": True})

    def _hear(self, message: dict[str, Any]) -> None:
        self._heard_at, self._answers = time.monotonic(), True
        if self._is_missing:
            self._is_missing = False
            self._link_all()
        if isinstance(counts := message.get("counts"), dict):
            self._own = _flat(counts)
        elif isinstance(lost := message.get("lost"), dict):
            self._lose(str(lost.get("session")), messages.number(lost, "run"))

    def close(self) -> None:
        """End the broker, and start none any more."""
        self._is_closed = True
        self.stop(wait=True)

    def _forget(self) -> None:
        if not (self._answers or self._is_closed):
            self._miss()
        self._spec = None
        self._lost.clear()
        self._before = {key: count for key, count in self._sum().items() if key != "open"}
        self._own = {}

    # -- runs

    def _miss(self) -> None:
        """No broker can be started: the runs turn connections away until one has answered."""
        if not self._is_missing:
            self._is_missing = True
            self._link_all()

    def _link_all(self) -> None:
        for worker in self._workers():
            self.link(worker.slot, worker.run)

    def link(self, slot: Slot | None, run: int | None) -> None:
        """Give a run of a session with a profile to the broker. A run without a link goes on; its
        connections wait for the next one, or are turned away where none can be started."""
        if slot is None or run is None or slot.network is None:
            return
        if self._is_missing:
            with contextlib.suppress(OSError):  # the run is over
                control_socket.send(slot.run_path(run), control_ops.NO_BROKER.message())
            return
        if not self._process.runs:
            return
        grant = dataclasses.asdict(slot.network) | {"session": slot.session, "run": run}
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                self._process.send({"link": grant}, [ours.fileno()])
                control_socket.send(
                    slot.run_path(run), control_ops.BROKER.message(), theirs.fileno()
                )
        except OSError as error:
            log.event(
                "broker.no_link", logging.WARNING, slot=slot.number, run=run, error=str(error)
            )
            self._lose(slot.session, run)

    def _lose(self, session: str, run: int) -> None:
        """The link of a run has not arrived."""
        self._lost.add((session, run))
        self._link_at = time.monotonic() + RESTART_S

    def _link_again(self) -> None:
        lost, self._lost = self._lost, set()
        for worker in self._workers():
            if worker.slot and (worker.slot.session, worker.run) in lost:
                self.link(worker.slot, worker.run)

    # -- counts

    def counts(self) -> dict[str, Any]:
        """The counts of all brokers of this warden: for metrics."""
        return {} if not self._resources.config.network.profiles else self._sum()

    def _sum(self) -> dict[str, int]:
        lasting = {key: value for key, value in self._own.items() if key != "open"}
        now = {key: value for key, value in self._own.items() if key == "open"}
        keys = self._before.keys() | lasting.keys()
        return {key: self._before.get(key, 0) + lasting.get(key, 0) for key in keys} | now


def _flat(counts: dict[str, Any]) -> dict[str, int]:
    """The counts in a message of the broker, as far as they are such."""
    flat = {"open": messages.number(counts, "open")}
    for part in ("outcomes", "bytes"):
        table = counts.get(part)
        if isinstance(table, dict):
            for key in list(table)[:OUTCOMES_MAX]:
                flat[f"{part}.{str(key)[:32]}"] = messages.number(table, key)
    return flat
