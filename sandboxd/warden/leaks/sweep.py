"""The sweep: scan, judge, repair, report. One sweep at a time; a request that comes meanwhile gets
the report of the one under way.

    scan     In a background job: the survey (scan.py). The job also puts the disk space by that a
             start needs on a full disk (slots/reserve.py), and copies cursors to the disk
             (warden/cursor_files.py).
    judge    In the warden, by the lease table of this moment: the leaks (rule.py). Each is looked
             at again, and one that has ended since is dropped. Cgroups are removed at once, before
             a new run can take their names.
    repair   In a background job that holds the leases of the uids concerned, so that neither this
             daemon nor another gives the uid to a session meanwhile. If another daemon holds the
             lease, the resource is that daemon's.
    report   The leaks with the outcome of their repair, and the resources of each slot; in a memfd,
             since it may be long.

After each sweep, and now and then in the warden's loop, the warden tries again to empty the slots
that could not be emptied at their release.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from ... import log
from ...errors import SandboxdError
from ...jail.cgroup import Group
from .. import cursor_files
from ..background import BackgroundJobs
from ..slots import reserve
from ..slots.host_resources import Loop, Object, Process, status_of
from ..uid_lease import UidLease
from .repair import repair
from .rule import (
    Expected,
    Leak,
    SlotDirectory,
    Survey,
    Temporary,
    leaks,
)  # fmt: skip
from .scan import survey

DEAD_S = 5.0
"""Time for the parent of a dead process to collect it."""

Reply = Callable[[int | None], None]
"""Takes a descriptor of the report, which stays the caller's; None: the report cannot be had."""

_PARTS = {
    "processes": Process, "directories": SlotDirectory, "loops": Loop, "objects": Object,
    "temporaries": Temporary,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseView:
    """The part of the warden that a sweep works with.

    expected  the lease table of this moment
    groups    the run groups of this daemon, by name
    stuck     slots that could not be emptied, whose uids the warden holds itself
    retry     tries again to empty the stuck slots
    take_uid_lease  takes the lease of a slot's uid; None: another daemon holds it
    """

    state_dir: str
    expected: Callable[[], Expected]
    groups: Callable[[], Mapping[str, Group]]
    take_uid_lease: Callable[[int], UidLease | None]
    stuck: Callable[[], frozenset[int]]
    retry: Callable[[], None]


class Sweep:
    """The sweeps of one warden."""

    def __init__(self, warden: LeaseView, jobs: BackgroundJobs) -> None:
        self._warden = warden
        self._jobs = jobs
        self._replies: list[Reply] = []
        self._uid_leases: dict[int, UidLease] = {}
        self._began = 0.0
        self._dead: dict[tuple[int, int], float] = {}  # pid and start -> when it was first seen

    def ask(self, reply: Reply) -> None:
        """Begin a sweep, if none is under way. Raises StageError."""
        if not self._replies:
            self._began = time.monotonic()
            expected = self._warden.expected()
            uids = range(expected.first_uid, expected.first_uid + expected.count)
            groups = {name: list(one.dirs.values()) for name, one in self._warden.groups().items()}
            state = self._warden.state_dir

            def scan() -> dict[str, Any]:
                reserve.keep(state)
                cursor_files.save(state)
                return asdict(survey(state, uids, groups))

            self._jobs.begin("survey", scan, self._scanned, [])
        self._replies.append(reply)

    def _scanned(self, result: Any) -> None:
        if result is None:
            self._report(Survey(), [], "the survey has failed")
            return
        try:
            self._judge(_survey(result))
        except (SandboxdError, OSError) as error:  # for instance, no descriptor is free
            self._release()
            self._report(Survey(), [], f"the sweep was broken off: {error}")

    def _judge(self, resources: Survey) -> None:
        expected = self._warden.expected()
        candidates = list(leaks(expected, resources))
        dead = {_dead(leak) for leak in candidates}
        self._dead = {key: since for key, since in self._dead.items() if key in dead}
        there = self._warden.groups()
        present = [leak for leak in candidates if self._is_present(leak, there)]
        groups = [_end_group(leak, there) for leak in present if leak.kind == "cgroup"]
        others = [leak for leak in present if leak.kind != "cgroup" and self._holds(expected, leak)]
        if not others:
            self._report(resources, groups)
            return
        state = self._warden.state_dir
        self._jobs.begin(
            "repair",
            lambda: [asdict(repair(leak, state)) for leak in others],
            lambda result: self._repaired(resources, groups, others, result),
            [uid_lease.fileno() for uid_lease in self._uid_leases.values()],
        )

    def _is_present(self, leak: Leak, groups: Mapping[str, Group]) -> bool:
        """The leak is still there. A resource may have gone since the survey: with a run that is
        over, or a slot that was just emptied. A dead process may be about to be collected by its
        parent: it counts when it has been dead for DEAD_S."""
        if leak.kind == "cgroup":
            return leak.target[0] in groups
        if leak.kind == "directory":
            return os.path.isdir(f"{self._warden.state_dir}/slots/{leak.slot}")
        if leak.kind != "process":
            return True
        pid, start, _ = leak.target
        status = status_of(pid)
        if status is None or status[0] != start:
            return False
        if key := _dead(leak):
            since = self._dead.setdefault(key, time.monotonic())
            return time.monotonic() - since >= DEAD_S
        return True

    def _holds(self, expected: Expected, leak: Leak) -> bool:
        """This daemon holds the lease of the leak's uid as long as the sweep lasts."""
        number = leak.slot
        if number is None or number in expected.leases or number in self._warden.stuck():
            return True
        if number not in self._uid_leases:
            if (uid_lease := self._warden.take_uid_lease(number)) is None:
                return False
            self._uid_leases[number] = uid_lease
        return True

    def _repaired(
        self, resources: Survey, groups: list[Leak], others: list[Leak], result: Any
    ) -> None:
        self._release()
        if result is None:
            repaired = [replace(leak, done="left: the repair has failed") for leak in others]
        else:
            repaired = [Leak(**one | {"target": tuple(one["target"])}) for one in result]
        self._report(resources, groups + repaired)

    def _release(self) -> None:
        for uid_lease in self._uid_leases.values():
            uid_lease.close()
        self._uid_leases.clear()

    def _report(self, resources: Survey, reported: list[Leak], fault: str = "") -> None:
        """Reply to every request for a sweep."""
        for leak in reported:
            log.event(
                "leak", logging.WARNING, kind=leak.kind, identity=leak.identity,
                age_s=leak.age_s, done=leak.done,
            )  # fmt: skip
        # Directories that were deleted since the survey are left out: the api would report leaks.
        state = self._warden.state_dir
        report = {
            "leaks": [_entry(leak) for leak in reported],
            "slots": _slots(self._warden.expected(), resources),
            "kept": [
                asdict(one)
                for one in resources.directories
                if one.session and os.path.isdir(f"{state}/slots/{one.number}")
            ],
            "stuck": sorted(self._warden.stuck()),
            "folders": [
                one for one in resources.folders if os.path.isdir(f"{state}/folders/{one}")
            ],
            "seconds": round(time.monotonic() - self._began, 3),
            "fault": fault,
        }
        replies, self._replies = self._replies, []
        _send(report, replies)
        self._warden.retry()


def _send(report: dict[str, Any], replies: list[Reply]) -> None:
    """Give the report to each reply, in a memfd."""
    try:
        fd = os.memfd_create("sandboxd-report", os.MFD_CLOEXEC)
    except OSError:
        for reply in replies:
            reply(None)
        return
    try:
        with open(fd, "w", encoding="utf-8", closefd=False) as file:
            json.dump(report, file)
        for reply in replies:
            reply(fd)
    finally:
        os.close(fd)


def _end_group(leak: Leak, groups: Mapping[str, Group]) -> Leak:
    group = groups[leak.target[0]]
    group.kill()
    done = "removed" if group.remove() else "killed, the next sweep removes it"
    return replace(leak, done=done)


def _dead(leak: Leak) -> tuple[int, int] | None:
    """Pid and start time of a process that is dead; None for every other leak."""
    if leak.kind != "process" or not leak.target[2]:
        return None
    return leak.target[0], leak.target[1]


def _survey(result: dict[str, Any]) -> Survey:
    """The result of a scan, back from JSON."""
    values = {name: [kind(**one) for one in result[name]] for name, kind in _PARTS.items()}
    sizes = {int(number): size for number, size in result["bytes"].items()}
    return Survey(groups=result["groups"], folders=result["folders"], bytes=sizes, **values)


def _entry(leak: Leak) -> dict[str, Any]:
    """The leak as clients and operators see it."""
    age = None if leak.age_s is None else round(leak.age_s, 1)
    return {"kind": leak.kind, "identity": leak.identity, "age_s": age, "done": leak.done}


def _slots(expected: Expected, resources: Survey) -> list[dict[str, Any]]:
    """The resources of each leased slot, which follow from its number."""
    processes = Counter(expected.slot_of(one.uid) for one in resources.processes)
    devices = {loop.image: loop.device for loop in resources.loops}
    return [
        {
            "slot": number,
            "session": lease.session,
            "uid": expected.first_uid + number,
            "processes": processes[number],
            "runs": len(lease.groups),
            "loop": devices.get(f"/slots/{number}/image"),
            "bytes": resources.bytes.get(number, 0),
        }
        for number, lease in sorted(expected.leases.items())
        if lease.session  # a spare has none
    ]
