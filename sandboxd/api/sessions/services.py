"""The services that every session works with, made once when the api starts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from ...config.settings import Config
from ...runs.queue import RunQueue
from ...store.database import Database
from ..admission.admission import Admission, Reservations
from ..http.body_budget import BodyBudget
from ..processes.file_client import all_helper_permits
from ..processes.warden_client import WardenClient
from ..telemetry.accounting import RunAccounting
from .deferred_writes import DeferredWrites
from .event_bus import EventBus


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the api that a session uses.

    deferred    the writes to the database that a full disk does not prevent
    accounting  the log lines and metrics of runs
    bodies      the memory for what clients send
    helpers     the permits of the file helpers of all owners
    events      the bus on which sessions publish what happens to them
    queues      owner -> the run queues of sessions that have had a run since they were last asked
    """

    warden: WardenClient
    database: Database
    admission: Admission
    accounting: RunAccounting
    deferred: DeferredWrites
    bodies: BodyBudget
    helpers: Reservations = field(default_factory=all_helper_permits)
    events: EventBus = field(default_factory=EventBus)
    queues: dict[str, set[RunQueue]] = field(default_factory=lambda: defaultdict(set))

    @property
    def config(self) -> Config:
        """The configuration that is in use; a reload changes it (Admission.renew)."""
        return self.admission.config

    def queued_runs(self, owner: str) -> int:
        """How many runs of an owner wait, behind others of their session or for admission. Most
        sessions are at rest, and are not looked at."""
        queues = {queue for queue in self.queues.pop(owner, ()) if queue.active}
        if queues:
            self.queues[owner] = queues
        behind = sum(queue.queued for queue in queues)
        return behind + self.admission.runs.queue.queued_of(owner)
