"""The removal of the cgroups of runs that are over.

The kernel removes a group only when the last process has left it. That process is known by a pidfd,
so nothing polls while processes end. Some kernels take a process out of its group shortly after its
pidfd has become readable (6.18 does); the removal is then tried again after a short pause.
"""

from __future__ import annotations

import functools
import os
import selectors
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...host.pidfds import await_ends, open_pidfd
from ...jail.cgroup import Group
from .worker import Worker

PAUSE_S = 0.0005
"""Until a group without a process is tried again. The pause doubles with each try."""

PAUSE_MAX_S = 0.02


def end_groups(groups: Iterable[Group], wait_s: float) -> list[Group]:
    """Kill all processes in `groups` and remove the groups; those that are left after `wait_s`
    seconds."""
    groups, deadline = list(groups), time.monotonic() + wait_s
    for group in groups:
        group.kill()
    return [group for group in groups if not _remove(group, deadline)]


def _remove(group: Group, deadline: float) -> bool:
    pause_s = PAUSE_S
    while not group.remove():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        if (pidfd := _member(group)) is None:
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, PAUSE_MAX_S)
            continue
        try:
            await_ends([pidfd], left_s)
        finally:
            os.close(pidfd)
    return True


def _kill_and_remove(group: Group) -> bool:
    """Kill what is in `group`, again at each try, since the first one may have had no descriptor.
    Most groups are empty, and the kernel says so at less cost than their lists of members."""
    group.kill()
    return group.remove()


def _member(group: Group) -> int | None:
    """A pidfd of a process that is still in `group`; None: there is none."""
    for pid in sorted(group.members()):
        if (pidfd := open_pidfd(pid, functools.partial(group.has, pid))) is not None:
            return pidfd
    return None


@dataclass(slots=True)
class _Removal:
    """A group that is to be removed. It is tried at `due`; None: when the process of a pidfd has
    ended."""

    worker: Worker
    due: float | None = 0.0
    pause_s: float = PAUSE_S


class GroupRemovals:
    """The groups of workers that have ended, in the warden's loop.

    may_go  no other run holds memory of the worker's run (memory_handoff.py)
    gone    is called when the group of a worker is removed
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        may_go: Callable[[Worker], bool],
        gone: Callable[[Worker], None],
    ) -> None:
        self._selector = selector
        self._may_go = may_go
        self._gone = gone
        self._removals: list[_Removal] = []

    def add(self, worker: Worker) -> None:
        """Remove the group of a worker that has ended, at the next `go_on`."""
        self._removals.append(_Removal(worker))

    @property
    def workers(self) -> list[Worker]:
        """The workers whose groups are not gone yet."""
        return [removal.worker for removal in self._removals]

    def due_in(self) -> float | None:
        """Seconds until `go_on` has something to do; None: it has to wait for a pidfd."""
        times = [removal.due for removal in self._removals if removal.due is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def go_on(self, every: bool = False) -> bool:
        """Try to remove the groups that are due, or `every` one; True if one was due."""
        now = time.monotonic()
        due = [one for one in self._removals if every or (one.due is not None and one.due <= now)]
        for removal in due:
            if self._try(removal):
                self._removals.remove(removal)
        return bool(due)

    def _try(self, removal: _Removal) -> bool:
        """Remove a group, or set the time of the next try; True if it is gone."""
        group, is_watched = removal.worker.group, removal.due is None
        assert group
        if not is_watched:
            removal.due = time.monotonic() + removal.pause_s
            removal.pause_s = min(2 * removal.pause_s, PAUSE_MAX_S)
        try:
            if not self._may_go(removal.worker):
                group.kill()
            elif group.remove() or _kill_and_remove(group):
                self._gone(removal.worker)
                return True
            elif not is_watched:
                self._watch(removal, group)
        except OSError:  # no descriptor is left, for instance
            pass
        return False

    def _watch(self, removal: _Removal, group: Group) -> None:
        """Have the end of a process of `group` bring the next try, if there is one."""
        if (pidfd := _member(group)) is not None:
            ended = functools.partial(self._ended, removal, pidfd)
            self._selector.register(pidfd, selectors.EVENT_READ, ended)
            removal.due = None

    def _ended(self, removal: _Removal, pidfd: int) -> None:
        """A process of the group has ended: another one may be there, or none."""
        self._selector.unregister(pidfd)
        os.close(pidfd)
        removal.due = 0.0
