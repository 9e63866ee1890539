"""The directories of runs that are forgotten: they are emptied, and serve later runs.

To free blocks of a disk may take milliseconds, for which the warden's loop would serve nobody. So
the loop only gives a directory another name, and a background job empties it. If the daemon is
killed before, the next one removes the directory.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..background import BackgroundJobs
from ..job_process import JobSpec
from ..slots.slots import Slot
from . import run_directory

EMPTIED_MAX = 16
"""Emptied directories of a slot at most that wait for a run: the api forgets eight together, and as
many runs may begin before they are emptied."""


def empty_runs(paths: list[str], room: int) -> list[str]:
    """The work of the job: run_directory.empty."""
    return run_directory.empty(paths, room)


class EmptiedDirectories:
    """Empties the directories of forgotten runs, each as soon as its run is over."""

    def __init__(self, jobs: BackgroundJobs) -> None:
        self._jobs = jobs

    def forget(self, slot: Slot, runs: Iterable[int]) -> None:
        """Nobody asks for these runs any more."""
        over = []
        for run in runs:
            if run in slot.runs:
                slot.forgotten.add(run)
            else:
                over.append(run)
        self._empty(slot, over)

    def ended(self, slot: Slot, run: int) -> None:
        """A run is over."""
        slot.runs.pop(run, None)
        if run in slot.forgotten:
            slot.forgotten.discard(run)
            self._empty(slot, [run])

    def _empty(self, slot: Slot, runs: list[int]) -> None:
        paths = [path for run in runs if (path := run_directory.set_aside(slot, run))]
        if not paths:
            return
        room = min(len(paths), max(0, EMPTIED_MAX - len(slot.emptied_runs) - slot.emptied_due))
        slot.emptied_due += room

        def done(emptied: list[str] | None) -> None:
            slot.emptied_due -= room
            slot.emptied_runs += emptied or []

        work = JobSpec(empty_runs, {"paths": paths, "room": room})
        self._jobs.put_off(f"empty runs of slot {slot.number}", work, done, [])
