"""A sweep: survey, judge, repair, report. One at a time; who asks meanwhile gets the same report.

    survey    in a chore: what is there; what a start needs on a full disk is put by (reserve.py)
    judge     here, by what the warden knows now: strays (rule.py). Each is looked at again:
              what has ended since is none. Cgroups go at once, before a new run can have their
              names
    repair    in a chore, with the leases of the uids concerned, so that neither we nor another
              daemon gives them to anybody meanwhile. A uid whose lease somebody else holds is that
              daemon's, and so is what it has
    report    strays and what was done, what each slot has; in a memfd, since it may be long

Slots that could not be emptied when they were released are tried again after that, and every now
and then by the warden's loop.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from ... import log
from ...errors import SandboxdError
from ...jail.cgroup import Group
from ..background import BackgroundJobs
from ..slots import reserve
from .repair import repair
from .rule import (
    Expected,
    Leak,
    Loop,
    Object,
    Process,
    SlotDirectory,
    Survey,
    Temporary,
    leaks,
)
from .scan import status_of, survey

DEAD_S = 5.0
"""How long the parent of a dead process may take to collect it."""

Reply = Callable[[int | None], None]
"""Takes a descriptor of the report, which stays the caller's; None: there is none to be had."""

_PARTS = {
    "processes": Process, "directories": SlotDirectory, "loops": Loop, "objects": Object,
    "temporaries": Temporary,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseView:
    """What a sweep needs of the warden.

    known   what is right at this moment
    groups  all run groups of this daemon, by name
    hold    the lease of a slot's uid; None: somebody else has it
    stuck   slots that could not be emptied, whose uids the warden holds itself
    retry   tries once more to empty those
    """

    state_dir: str
    known: Callable[[], Expected]
    groups: Callable[[], Mapping[str, Group]]
    hold: Callable[[int], socket.socket | None]
    stuck: Callable[[], frozenset[int]]
    retry: Callable[[], None]


class Sweep:
    """The sweeps of one warden."""

    def __init__(self, host: LeaseView, chores: BackgroundJobs) -> None:
        self._host = host
        self._chores = chores
        self._replies: list[Reply] = []
        self._held: dict[int, socket.socket] = {}
        self._began = 0.0
        self._dead: dict[tuple[int, int], float] = {}  # since when they were seen

    def ask(self, reply: Reply) -> None:
        """Begin a sweep, if none is under way. Raises StageError."""
        if not self._replies:
            self._began = time.monotonic()
            known = self._host.known()
            uids = range(known.first_uid, known.first_uid + known.count)
            groups = {name: list(one.dirs.values()) for name, one in self._host.groups().items()}
            state = self._host.state_dir

            def look() -> dict[str, Any]:
                reserve.keep(state)
                return asdict(survey(state, uids, groups))

            self._chores.begin("survey", look, self._surveyed, [])
        self._replies.append(reply)

    def _surveyed(self, found: Any) -> None:
        if found is None:
            self._report(Survey(), [], "the survey has failed")
            return
        try:
            self._judge(_seen(found))
        except (SandboxdError, OSError) as error:  # no descriptor is left, say
            self._let_go()
            self._report(Survey(), [], f"the sweep was broken off: {error}")

    def _judge(self, seen: Survey) -> None:
        known = self._host.known()
        found = list(leaks(known, seen))
        dead = {_dead(one) for one in found}
        self._dead = {key: at for key, at in self._dead.items() if key in dead}
        now = [one for one in found if self._is_there(one)]
        groups = [self._end_group(one) for one in now if one.kind == "cgroup"]
        others = [one for one in now if one.kind != "cgroup" and self._is_ours(known, one)]
        if not others:
            self._report(seen, groups)
            return
        state = self._host.state_dir
        self._chores.begin(
            "repair",
            lambda: [asdict(repair(one, state)) for one in others],
            lambda done: self._repaired(seen, groups, others, done),
            [lock.fileno() for lock in self._held.values()],
        )

    def _is_there(self, stray: Leak) -> bool:
        """What was there may have gone since the survey: with a run that is over, say, or a slot
        that was just emptied. A process that is dead may be about to be collected: it counts when
        it has been so for DEAD_S."""
        if stray.kind == "cgroup":
            return stray.target[0] in self._host.groups()
        if stray.kind == "directory":
            return os.path.isdir(f"{self._host.state_dir}/slots/{stray.slot}")
        if stray.kind != "process":
            return True
        pid, start, _ = stray.target
        status = status_of(pid)
        if status is None or status[0] != start:
            return False
        if key := _dead(stray):
            began = self._dead.setdefault(key, time.monotonic())
            return time.monotonic() - began >= DEAD_S
        return True

    def _is_ours(self, known: Expected, stray: Leak) -> bool:
        """Nobody else can have the uid of it as long as the sweep lasts."""
        number = stray.slot
        if number is None or number in known.leases or number in self._host.stuck():
            return True
        if number not in self._held:
            if (lock := self._host.hold(number)) is None:
                return False
            self._held[number] = lock
        return True

    def _end_group(self, stray: Leak) -> Leak:
        group = self._host.groups().get(stray.target[0])
        if group is None:
            return replace(stray, done="removed")
        group.kill()
        return replace(
            stray, done="removed" if group.remove() else "killed, the next sweep removes it"
        )

    def _repaired(self, seen: Survey, groups: list[Leak], asked: list[Leak], done: Any) -> None:
        self._let_go()
        if done is None:
            told = [replace(one, done="left: the repair has failed") for one in asked]
        else:
            told = [Leak(**one | {"target": tuple(one["target"])}) for one in done]
        self._report(seen, groups + told)

    def _let_go(self) -> None:
        for lock in self._held.values():
            lock.close()
        self._held.clear()

    def _report(self, seen: Survey, found: list[Leak], fault: str = "") -> None:
        """Answer everybody who has asked."""
        for stray in found:
            log.event(
                "stray", logging.WARNING, kind=stray.kind, identity=stray.identity,
                age_s=stray.age_s, done=stray.done,
            )  # fmt: skip
        state = self._host.state_dir  # who asked while it was looked at may not know what has gone
        report = {
            "strays": [_told(stray) for stray in found],
            "slots": _slots(self._host.known(), seen),
            "kept": [
                asdict(one)
                for one in seen.directories
                if one.session and os.path.isdir(f"{state}/slots/{one.number}")
            ],
            "stuck": sorted(self._host.stuck()),
            "folders": [one for one in seen.folders if os.path.isdir(f"{state}/folders/{one}")],
            "seconds": round(time.monotonic() - self._began, 3),
            "fault": fault,
        }
        replies, self._replies = self._replies, []
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
        self._host.retry()


def _dead(stray: Leak) -> tuple[int, int] | None:
    """Pid and start time of a process that is dead; None for everything else."""
    if stray.kind != "process" or not stray.target[2]:
        return None
    return stray.target[0], stray.target[1]


def _seen(found: dict[str, Any]) -> Survey:
    """A survey's result, back from JSON."""
    values = {name: [kind(**one) for one in found[name]] for name, kind in _PARTS.items()}
    sizes = {int(number): size for number, size in found["bytes"].items()}
    return Survey(groups=found["groups"], folders=found["folders"], bytes=sizes, **values)


def _told(stray: Leak) -> dict[str, Any]:
    age = None if stray.age_s is None else round(stray.age_s, 1)
    return {"kind": stray.kind, "identity": stray.identity, "age_s": age, "done": stray.done}


def _slots(known: Expected, seen: Survey) -> list[dict[str, Any]]:
    """What each leased slot has, from its number alone."""
    processes = Counter(known.slot_of(one.uid) for one in seen.processes)
    devices = {loop.image: loop.device for loop in seen.loops}
    return [
        {
            "slot": number,
            "session": lease.session,
            "uid": known.first_uid + number,
            "processes": processes[number],
            "runs": len(lease.groups),
            "loop": devices.get(f"/slots/{number}/image"),
            "bytes": seen.bytes.get(number, 0),
        }
        for number, lease in sorted(known.leases.items())
    ]
