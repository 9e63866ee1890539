"""Requests about the daemon as a whole: ready, ping, sweep."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

from ... import log
from ...errors import StageError, Unavailable
from ...systemd import Notify
from ..background import BackgroundJobs
from ..fork import LAST
from ..leaks.sweep import Sweep
from ..shared_resources import Resources
from ..vitals import vitals
from ..workers import Workers
from .adoption import remove_unknown
from .remount import suspect_scratches
from .replies import PendingReply, Result
from .spares import Spares
from .teardown import Teardown


class DaemonRequests:
    """Acts on the whole daemon.

    announce  is called once, when the daemon is ready
    network   the counts of the broker
    """

    def __init__(
        self,
        resources: Resources,
        workers: Workers,
        teardown: Teardown,
        sweep: Sweep,
        notify: Notify,
        announce: Callable[[], None],
        spares: Spares,
        jobs: BackgroundJobs,
        network: Callable[[], dict[str, Any]],
    ) -> None:
        self._resources = resources
        self._workers = workers
        self._teardown = teardown
        self._sweep = sweep
        self._notify = notify
        self._announce = announce
        self._spares = spares
        self._jobs = jobs
        self._network = network

    def ready(self, reply: PendingReply) -> None:
        """The api has adopted its sessions: what is left of others is removed, and then the daemon
        is ready. Raises StageError."""

        def removed(paths: list[str] | None) -> None:
            if paths is None:
                reply.refuse(StageError("sweep", "the slots of no session cannot be removed"))
                return
            for path in paths:
                log.event("slot.removed", logging.WARNING, path=path, reason="no session")
            self._resources.hierarchy.remove_idle()
            self._announce()
            self._notify.ready(self.status())
            reply.succeed()

        work = remove_unknown(self._resources, self._workers.all())
        self._jobs.begin("remove slots", work, removed, [])

    def ping(self) -> Result:
        """The warden lives; so the service manager hears, too."""
        self._notify.alive(self.status())
        suspect_scratches(self._resources)
        self._spares.renew()
        LAST.probe()
        busy = {"children": len(self._workers.all()), "releasing": len(self._teardown)}
        return Result({"vitals": vitals() | busy | {"network": self._network()}})

    def sweep(self, reply: PendingReply) -> None:
        """Look for leaks and remove them, and for changes of the host's packages. The groups of
        idle slots go too; the next run makes its own anew."""
        self._resources.host_files.look()
        self._resources.hierarchy.remove_idle()
        self._sweep.ask(functools.partial(_send_report, reply))

    def status(self) -> str:
        """Counts of sessions and runs, for `systemctl status`."""
        leased = self._resources.slots.leased.values()
        return f"{len(leased)} sessions, {sum(len(slot.runs) for slot in leased)} runs"


def _send_report(reply: PendingReply, report: int | None) -> None:
    """Reply with the report of a sweep. The descriptor stays the caller's."""
    try:
        copy = None if report is None else os.dup(report)
    except OSError:
        copy = None
    if copy is None:
        reply.refuse(Unavailable("too many descriptors are open for the report"))
    else:
        reply.succeed(Result(descriptors=[copy]))
