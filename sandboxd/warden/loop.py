"""The warden's loop: serves the api's requests, collects children, ends at SIGTERM.

It has one thread and one selector. The loop waits for no act that takes its time: background jobs
do such acts (background.py), and a slot is released when the last of its processes and its cgroups
are gone (requests/teardown.py). If the api ends, the warden ends too, and the service manager
starts both again. An api that sends garbage is killed at once, and an api that has closed its
socket has a moment to end: a warden without requests would be half a daemon for ever.

Runs do not end with the daemon, however it ends: their shims go on, and the next warden adopts them
(requests/adoption.py).
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .. import crash, log
from ..config.settings import Config
from ..errors import StageError
from ..host import pidfds
from ..systemd import Notify
from ..wire import messages
from . import cursor_files
from .background import BackgroundJobs
from .broker.broker_link import BrokerLink
from .config_reload import reload
from .job_process import JobProcesses
from .leaks.sweep import LeaseView, Sweep
from .requests.daemon_requests import DaemonRequests
from .requests.dispatcher import Dispatcher, acts_of
from .requests.folder_requests import FolderRequests
from .requests.provisioning import Provisioning
from .requests.remount import Remounts
from .requests.run_requests import RunRequests
from .requests.slot_jobs import FUNCTIONS
from .requests.slot_requests import SlotRequests
from .requests.spares import Spares
from .requests.teardown import Teardown
from .requests.workspace_requests import WorkspaceRequests
from .runs.connection_watch import ConnectionWatch
from .runs.cpu_hold import CpuHolds
from .runs.emptied_directories import EmptiedDirectories
from .runs.entries import Entries
from .runs.lock_watch import LockWatch
from .runs.spawner import SpawnerSpec
from .runs.worker import Worker
from .shared_resources import Resources
from .workers import Workers

WATCHES = (LockWatch, ConnectionWatch)
"""Of memory that no cgroup counts."""

END_POLL_S = 0.005
"""Between two looks at the workers that end with the daemon."""

AT_ONCE = 64
"""Times that the loop looks for further events before its maintenance."""

API_END_S = 15.0
"""How long an api that has closed its socket may take to its end: its requests have 3 s."""

GRACE_S = 5.0
"""How long helpers, terminals and background jobs have to end at the end of the daemon."""


@dataclass(frozen=True, slots=True)
class Api:
    """The unprivileged half: its process, the socket to it, and the pipe for its trace."""

    pid: int
    sock: socket.socket
    trace: crash.TracePipe


def serve(
    selector: selectors.BaseSelector, events: Iterable[tuple[selectors.SelectorKey, int]]
) -> None:
    """Serve events that arrived together, except those of what an act before has ended."""
    for key, _ in events:
        current = selector.get_map().get(key.fd)
        if current is key:
            key.data()


class WardenLoop:
    """Serves one api until the api or the warden ends.

    announce    is called once, when the daemon is ready
    read_again  reads the configuration
    """

    def __init__(
        self,
        resources: Resources,
        api: Api,
        announce: Callable[[], None],
        notify: Notify,
        read_again: Callable[[], Config],
    ) -> None:
        self._resources = resources
        self._api = api
        self._notify = notify
        self._read_again = read_again
        self._api_fd = os.pidfd_open(api.pid)
        self._stopping = False
        self._spec: SpawnerSpec | None = None
        self._api_ends_by: float | None = None
        self._selector = selectors.DefaultSelector()
        self._jobs = BackgroundJobs(JobProcesses(self._selector, FUNCTIONS))
        directories = EmptiedDirectories(self._jobs)
        self._workers = Workers(resources, self._selector, directories, self._worker_ended)
        self._entries = Entries(
            self._selector, self._spawner_spec, self._workers.crashed, self._workers.became_warm
        )
        self._size_entries()
        holds = CpuHolds()
        self._watches = [watch(self._jobs.begin, self._workers.all, holds) for watch in WATCHES]
        self._broker = BrokerLink(self._selector, resources, self._workers.all)
        self._teardown = Teardown(resources, self._jobs, self._workers)
        leases = LeaseView(
            resources.config.state_dir, self._workers.expected, self._workers.groups,
            resources.slots.take_uid_lease, lambda: frozenset(resources.slots.stuck),
            self._teardown.retry,
        )  # fmt: skip
        self._spares = Spares(resources, self._jobs, self._teardown)
        provisioning = Provisioning(resources, self._jobs, self._teardown, self._spares)

        def ready() -> None:
            announce()
            provisioning.prove()  # before the first session asks

        self._daemon = DaemonRequests(
            resources, self._workers, self._teardown, Sweep(leases, self._jobs), notify, ready,
            self._spares, self._jobs, self._broker.counts,
        )  # fmt: skip
        acts = acts_of(
            self._daemon,
            provisioning,
            SlotRequests(resources, self._workers, self._teardown, self._jobs, self._broker.link),
            RunRequests(
                resources, self._entries, directories, self._workers.add, self._broker.link,
                self._workers.meets_others,
            ),
            FolderRequests(resources, self._workers.add, self._jobs),
            WorkspaceRequests(resources, self._jobs),
        )  # fmt: skip
        self._remounts = Remounts(
            resources, self._jobs, self._entries.end_warm, self._teardown.go_on
        )
        self._dispatcher = Dispatcher(api.sock, acts, self._remounts.hold)

    def _size_entries(self) -> None:
        if not self._resources.tied:  # a private daemon has one run
            runs = self._resources.config.runs
            self._entries.size, self._entries.warm_s = runs.prepared, runs.warm_s

    def _worker_ended(self) -> None:
        self._entries.run_ended()
        self._teardown.go_on()

    def _spawner_spec(self) -> SpawnerSpec:
        """The values for a spawner at this moment."""
        jail = self._resources.jail()
        if self._spec is None or self._spec.jail is not jail:
            state = self._resources.config.state_dir
            self._spec = SpawnerSpec(jail, (f"{state}/slots", f"{state}/folders"))
        return self._spec

    def serve(self, stop_signals: Sequence[int] = ()) -> int:
        """Run until the end; the exit status of the daemon. `stop_signals` are the SIGTERMs that
        arrived before."""
        wake, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        if stop_signals:
            self._stop()
        hangups: list[int] = []
        signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
        self._selector.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 4096))
        self._selector.register(self._api.sock, selectors.EVENT_READ, self._serve_request)
        status = None
        while status is None:
            self._serve_events()
            if hangups:
                hangups.clear()
                self._reload()
            if self._stopping:
                self._spares.close()
            self._end_silent_api()
            status = self._collect()
            self._workers.remove_groups()
            self._teardown.maintain()
            self._jobs.begin_due()
            self._resources.host_files.renew_if_outdated(self._jobs)
            self._entries.maintain()
            self._broker.maintain()
            if not self._workers.are_none:
                for watch in self._watches:
                    watch.maintain()
        self._end()
        return status

    def _serve_events(self) -> None:
        """Wait for events, and serve them and those that arrive meanwhile. The maintenance comes
        after them: a warm entry, say, must not go while the request that it is for waits."""
        events = self._selector.select(self._timeout())
        for _ in range(AT_ONCE):
            serve(self._selector, events)
            if not (events := self._selector.select(0)):
                return

    def _timeout(self) -> float | None:
        waits = [
            self._teardown.due_in(), self._workers.remove_groups_in(), self._jobs.due_in(),
            self._entries.due_in(), self._broker.due_in(),
        ]  # fmt: skip
        if not self._workers.are_none:
            waits += [watch.due_in() for watch in self._watches]
        if self._api_ends_by is not None:
            waits.append(max(0.0, self._api_ends_by - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _serve_request(self) -> None:
        self._jobs.is_at_work()
        if not self._dispatcher.serve_one():  # _collect has the api's exit status
            self._selector.unregister(self._api.sock)
            left = 0.0 if self._dispatcher.broken else API_END_S
            self._api_ends_by = time.monotonic() + left

    def _end_silent_api(self) -> None:
        """Kill an api that makes no requests any more and does not end."""
        if self._api_ends_by is not None and time.monotonic() >= self._api_ends_by:
            self._api_ends_by = None
            log.event("api.killed", logging.ERROR, reason="it makes no requests and does not end")
            os.kill(self._api.pid, signal.SIGKILL)  # its child: the pid is still the api's

    def _reload(self) -> None:
        """SIGHUP: read the configuration again."""
        self._notify.reloading()
        reload(self._resources, self._read_again, self._api.sock)
        self._size_entries()
        self._spares.renew()
        self._jobs.retire()
        self._notify.ready(self._daemon.status())

    def _collect(self) -> int | None:
        """Collect children that have ended; the daemon's exit status when one is the api."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            code = os.waitstatus_to_exitcode(status)
            if pid == self._api.pid:
                return self._api_ended(code)
            if not self._jobs.collected(pid, status):
                self._entries.collected(pid)
                self._broker.collected(pid)
                self._workers.collected(pid, code)

    def _api_ended(self, code: int) -> int:
        """The daemon's exit status. The log has the cause of an end that nobody has requested."""
        fault = crash.fault(code)
        if fault:
            for part in self._api.trace.read():
                log.event("api.crashed", logging.ERROR, stack=part)
        if self._stopping and not fault:
            return 0
        log.event("api.ended", logging.ERROR, exit=code, signal=fault)
        return 0 if self._stopping else 1

    def _stop(self) -> None:
        """SIGTERM: the api finishes its requests, or drains, and ends; the warden follows. A second
        SIGTERM goes to the api too, which then does not wait. It may have been collected already,
        and its pid be another process's."""
        if not self._stopping:
            self._stopping = True
            stop = self._resources.config.stop
            self._notify.stopping("stopping", stop.grace_s if stop.runs == "drain" else 0)
        pidfds.send(self._api_fd, signal.SIGTERM)

    def _end(self) -> None:
        """Collect the workers that end with the daemon, and unmount every scratch and the copy of
        host files. Runs go on for the next daemon, unless they are tied to this one."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._remounts.close()
        self._entries.close()
        self._broker.close()
        self._spares.close()
        for watch in self._watches:
            watch.close()
        for worker in self._workers.all():
            if worker.run is None or self._resources.tied:
                worker.kill()
        deadline = time.monotonic() + GRACE_S
        while (self._ending() or not self._jobs.are_over) and time.monotonic() < deadline:
            self._jobs.begin_due(now=True)
            self._jobs.retire()  # also those that have just begun
            self._collect()
            self._workers.poll()
            self._workers.remove_groups(every=True)
            time.sleep(END_POLL_S)
        for slot in self._resources.slots.leased.values():
            try:
                messages.close_all(self._resources.folders.take_back(slot))
                self._resources.scratch.unmount(slot.path)
            except StageError as error:
                log.event("unmount", logging.ERROR, slot=slot.number, error=str(error))
        self._resources.host_files.remove()
        cursor_files.save(self._resources.config.state_dir)

    def _ending(self) -> bool:
        """A worker that ends with the daemon, or the cgroup of one, is still there."""
        return bool(self._workers.removing) or any(map(self._is_tied, self._workers.all()))

    def _is_tied(self, worker: Worker) -> bool:
        return worker.run is None or worker.terminal or self._resources.tied
