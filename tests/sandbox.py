"""A warden without loop, api and HTTP: leases slots and does runs in them, for real, as root.

Shims are forked from the test's own process: a test can take a protection away with monkeypatch.
"""

from __future__ import annotations

import os
import selectors
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from sandboxd import spool
from sandboxd.api.sessions.sealed_memfd import sealed
from sandboxd.config import toml_file
from sandboxd.config.settings import STEP_LIMITS
from sandboxd.host.tasks import HostTasks
from sandboxd.model import STEPS, Limits
from sandboxd.warden.background import failure
from sandboxd.warden.broker.broker_link import BrokerLink
from sandboxd.warden.host_limits import within_host
from sandboxd.warden.requests import adoption, provisioning, replies, teardown
from sandboxd.warden.requests.folder_requests import FolderRequests
from sandboxd.warden.requests.run_requests import RunRequests
from sandboxd.warden.requests.slot_jobs import making
from sandboxd.warden.requests.slot_requests import SlotRequests
from sandboxd.warden.requests.spares import Spares
from sandboxd.warden.runs import slot_group
from sandboxd.warden.runs.cgroups import Hierarchy
from sandboxd.warden.runs.emptied_directories import EmptiedDirectories
from sandboxd.warden.runs.jail_entry import Shim
from sandboxd.warden.runs.worker import Worker
from sandboxd.warden.shared_resources import Resources
from sandboxd.warden.slots import folders
from sandboxd.warden.slots.reclaim import reclaim
from sandboxd.warden.slots.slots import Slot
from sandboxd.warden.workers import Workers
from sandboxd.wire import messages
from sandboxd.wire.ops import RequestChecker

from .background_jobs import LooplessJobs
from .entries import entries_of
from .run_follower import follow
from .waiting import SLOWNESS, until

TEST_UIDS = 1_000_000 + os.getpid() % 1000 * 256
"""The first uid of these tests. Modules use those from 100 on, each its own: processes that run
tests may have been forked after the import."""


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
        return cast(int | None, self.last["exit"])

    @property
    def verdict(self) -> dict[str, Any]:
        """The verdict of the last step."""
        return cast(dict[str, Any], self.last["verdict"])


class BareWarden:
    """A warden without its loop. Tests call its acts, which check their arguments by `OPS`."""

    def __init__(self, state_dir: str, **tables: Any) -> None:
        first_uid = 1_000_000 + os.getpid() % 1000 * 256  # this process's own
        slots = {"first_uid": first_uid, "count": 64}
        tables = {"slots": slots, "scratch": {"spares": 0}} | tables
        loaded = toml_file.load(None, state_dir=state_dir, **tables)
        hierarchy = Hierarchy.find(f"sandboxd-test-{os.getpid()}")
        self.resources = Resources(within_host(loaded, HostTasks(())), hierarchy)
        self.jobs = LooplessJobs()
        self._selector = selectors.DefaultSelector()
        directories = EmptiedDirectories(self.jobs)
        self.workers = Workers(self.resources, self._selector, directories, lambda: None)
        self.teardown = teardown.Teardown(self.resources, self.jobs, self.workers)
        shared = resources, jobs, ending = self.resources, self.jobs, self.teardown
        self.spares = Spares(*shared)
        self.provisioning = provisioning.Provisioning(*shared, self.spares)
        self.entries = entries_of(self.resources, self._selector, self.workers)
        self._started: list[Worker] = []
        link, meets = BrokerLink(self._selector, resources, self.workers.all).link, lambda *_: False
        self._subjects = (
            SlotRequests(resources, self.workers, ending, jobs, link),
            RunRequests(resources, self.entries, directories, self._started.append, link, meets),
            FolderRequests(resources, self._started.append, jobs),
        )

    def is_warm(self, pid: int) -> bool:
        """The shim `pid` waits for the next run of its session, now or in a moment."""
        for key, _ in self._selector.select(0.005):
            key.data()
        return any(one.state == "warm" and one.shim == Shim(pid) for one in self.entries._claimed)

    def request(self, op: str, *fds: int, **arguments: Any) -> replies.Result:
        """Make a request that is answered at once. Raises what refuses it."""
        (act,) = (getattr(one, op) for one in self._subjects if hasattr(one, op))
        return cast(replies.Result, act(**self.checked(op, *fds, **arguments)))

    def start(self, *fds: int, **arguments: Any) -> tuple[Worker, list[int]]:
        """Start a run; its shim, and the descriptors to follow it."""
        result = self.request("start", *fds, **arguments)
        return self._started[-1], result.descriptors

    def checked(self, op: str, *fds: int, **arguments: Any) -> dict[str, Any]:
        """The arguments of a request as its act takes them. Raises Invalid."""
        usual = {"network": None, "owner": "somebody"} if op in ("lease", "adopt") else {}
        return RequestChecker().check({"op": op, "id": 0, **usual, **arguments}, fds).arguments

    def lease(self, **arguments: Any) -> Slot:
        """Lease a slot and make its scratch, in this process."""
        self._retry()
        checked = self.checked("lease", **{"workspace": None} | arguments)
        size, inodes, attachments, workspace = (
            checked[name] for name in ("size", "inodes", "attachments", "workspace")
        )
        self.prove()
        slot = self.resources.slots.lease(checked["session"])
        slot.owner = checked["owner"]
        try:
            self.resources.folders.lend(slot, attachments)
            self.resources.workspaces.lend(slot, workspace)
            if error := failure(making(self.resources, slot, size, inodes)()):
                raise error
            self.resources.folders.prove(slot)
        except BaseException:  # an interrupted test, too, frees its slot; raised again
            self.free(slot)
            raise
        slot.ready = True
        return slot

    def prove(self) -> None:
        """Have slots proven to be empty, in this process."""
        slots, begin = self.resources.slots, 0
        while not slots.vacant:
            begin = slots.prove(begin)
            assert slots.proving, "all slots are leased"
            slots.proven(frozenset(slots.unused(provisioning.busy(self.resources))))

    def _retry(self) -> None:
        """Release the slots whose dead processes have been collected by the host's first process,
        as the warden's loop does. It may take seconds for that, and no test waits for it."""
        slots = self.resources.slots
        for number in sorted(slots.stuck):
            slot = slots.emptying[number]
            if not reclaim(self.resources.config.state_dir, number, slot.uid):
                slots.release(slot)

    def adopt(self, **arguments: Any) -> list[Worker]:
        """Adopt a slot; the shims of its runs that go on."""
        arguments = self.checked("adopt", **arguments)
        owner, attachments, _, workspace = map(
            arguments.pop, ("owner", "attachments", "network", "workspace")
        )
        adopted = adoption.take_up(self.resources, arguments.pop("slot"), **arguments)
        adopted.slot.owner = owner
        adoption.complete(self.resources, adopted)
        self.resources.folders.lend(adopted.slot, attachments)
        for one in attachments:
            folders.mount(self.resources.config.state_dir, one.folder)
        self.resources.folders.prove(adopted.slot)
        adopted.slot.workspace = workspace
        adopted.slot.ready = True
        return adopted.shims

    def make_folder(self, folder: str, size: int, inodes: int) -> None:
        """Make a virtual folder, in this process."""
        self.resources.folders.make(
            **self.checked("folder_make", folder=folder, size=size, inodes=inodes)
        )

    def remove_folder(self, folder: str) -> None:
        """Remove a virtual folder, in this process. Raises Invalid when a session has it."""
        folders = self.resources.folders
        folders.begin_removal(folder)
        folders.remove(folder)
        folders.end_removal(folder)

    def free(self, slot: Slot) -> None:
        """Take everything back from a slot whose processes are gone. Raises StageError when
        something is left."""
        lent = teardown.vacate(self.resources, slot)
        remains = reclaim(self.resources.config.state_dir, slot.number, slot.uid, lent)
        teardown.emptied(self.resources, slot, remains)


def slowed(limits: dict[str, Any]) -> dict[str, Any]:
    """Limits under which a program comes as far as on hardware."""
    return limits | {"wall_s": limits["wall_s"] * SLOWNESS}


@dataclass
class Sandbox:
    """One leased slot."""

    warden: BareWarden
    slot: Slot
    limits: Limits = field(
        default_factory=lambda: replace(STEP_LIMITS, wall_s=20, memory=256 << 20, pids=64)
    )
    runs: int = 0
    _resting: dict[int, Worker] = field(default_factory=dict)

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
        interactive: bool = False,
        **limits: Any,
    ) -> Result:
        """Do a run to its end. When it waits for input, `on_wait` is called, and then it gets the
        next of `answers`; None is the end of input. On a slow machine, `wall_s` is longer."""
        self.runs += 1
        limit = asdict(replace(self.limits, **limits))
        own = per_step or {}
        commands = dict(zip(STEPS, (clean, build, exec), strict=True))
        steps = [
            {"name": n, "command": c, "limits": slowed(limit | own.get(n, {}))}
            for n, c in commands.items()
        ]
        files = [] if stdin is None else [sealed(stdin)]
        try:
            shim, fds = self.start(
                *files, run=self.runs, steps=steps, environ=environ or {}, runtime=runtime,
                interactive=interactive,
            )  # fmt: skip
        finally:
            messages.close_all(files)
        try:
            if while_running:
                while_running(shim)
            waited = follow(fds[0], list(answers or []), lambda: on_wait(shim) if on_wait else None)
            self._wait(shim)
            return self._result(fds, waited)
        finally:
            messages.close_all(fds[1:])
            self.slot.runs.pop(self.runs, None)
            if shim.pid not in self._resting:
                self.end(shim)

    def _wait(self, shim: Worker) -> None:
        """Wait until a shim has ended, or is warm. End the groups of warm shims that have ended."""
        self._resting[shim.pid] = shim
        while shim.pid in self._resting and not self.warden.is_warm(shim.pid):
            self._collect(os.WNOHANG)

    def _collect(self, options: int) -> None:
        """Take in the warm shims that have ended."""
        for pid, worker in list(self._resting.items()):
            if os.waitpid(pid, options)[0]:
                del self._resting[pid]
                self.end(worker)

    def end_warm(self) -> None:
        """End the shims that wait for the next run."""
        self.warden.entries.end_warm(self.slot)
        self._collect(0)
        self.warden.is_warm(0)  # sees the ends of the shims that did not rest

    @property
    def name(self) -> dict[str, Any]:
        """The arguments that name the slot in a request."""
        return {"slot": self.slot.number, "session": self.slot.session}

    def start(self, *fds: int, **arguments: Any) -> tuple[Worker, list[int]]:
        """Start a run of three steps "true", or of other `arguments`; its shim, and the descriptors
        to follow it."""
        limits = asdict(self.limits)
        steps = [{"name": name, "command": "true", "limits": limits} for name in STEPS]
        usual = {
            "run": 1, "shell": "/bin/bash", "steps": steps, "environ": {}, "terminal": False,
            "interactive": False, "runtime": "",
        }  # fmt: skip
        return self.warden.start(*fds, **(self.name | usual | arguments))

    def _result(self, fds: list[int], waited: int) -> Result:
        keep = self.warden.resources.config.console
        result = Result(spool.read_events(fds[2]), waited=waited)
        texts: dict[int, list[str]] = {spool.STDOUT: [], spool.STDERR: []}
        for record, _ in spool.ConsoleReader(fds[1], keep.head, keep.tail).read(
            spool.SpoolPosition(), 1 << 60
        ):
            result.lost += record.lost
            texts[record.stream].append(record.text)
        result.stdout, result.stderr = ("".join(texts[n]) for n in (spool.STDOUT, spool.STDERR))
        return result

    def end(self, shim: Worker) -> None:
        """Remove what a run leaves to its warden; fails when processes stay in its cgroup."""
        self.slot.runs.pop(shim.run or 0, None)
        group = shim.group
        assert group
        group.kill()
        until(group.remove, why=lambda: f"left in the cgroup: {group.members()}")
        slot_group.leave(self.warden.resources.hierarchy, self.slot, shim.run or 0)


def restarted(slot: Slot, warden: BareWarden, **arguments: Any) -> tuple[Slot, list[Worker]]:
    """`slot` and the shims in it, as a warden has them that is started after this one."""
    resources = warden.resources
    resources.folders.take_back(slot)
    resources.scratch.unmount(slot.path)
    slot.uid_lease.close()
    del resources.slots.leased[slot.number]
    nothing: dict[str, Any] = {"attachments": [], "runs": [], "workspace": None}
    usual = {"slot": slot.number, "session": slot.session} | nothing
    shims = warden.adopt(**(usual | arguments))
    return resources.slots.leased[slot.number], shims


def lease(
    warden: BareWarden,
    size: int = 64 << 20,
    inodes: int = 4096,
    attachments: list[dict[str, Any]] | None = None,
    **arguments: Any,
) -> Sandbox:
    """A slot for a test; `warden.free(sandbox.slot)` gives it back."""
    usual = {"session": str(uuid.uuid4()), "attachments": attachments or []}
    return Sandbox(warden, warden.lease(size=size, inodes=inodes, **usual | arguments))
