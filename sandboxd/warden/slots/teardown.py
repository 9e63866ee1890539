"""The end of leases: a slot is vacated when nobody works for it any more, emptied in a chore, and
whoever wanted it released is answered then.

A slot in which something was left (proof.py) stays leased and is tried again every STUCK_S.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from ... import log, wire
from ...errors import StageError
from ..background import BackgroundJobs
from ..requests import Requests
from . import proof
from .leases import Slot
from .proof import Remains

STUCK_S = 5.0
"""Between two tries to empty a slot in which something was left: often only a dead process, which
the host's first process had not collected yet."""

_UNKNOWN = Remains(["what, is not known: the chore has failed"], [])


class Teardown:
    """The releases that are under way.

    busy    somebody still works for the slot
    answer  is given the id of a request for a release, and what has failed, None: nothing
    """

    def __init__(
        self,
        requests: Requests,
        chores: BackgroundJobs,
        busy: Callable[[Slot], bool],
        answer: Callable[[int, StageError | None], None],
    ) -> None:
        self._requests = requests
        self._slots = requests.slots
        self._chores = chores
        self._busy = busy
        self._answer = answer
        self._asked: dict[int, list[int]] = {}  # slot -> ids of the requests to answer
        self._emptying: set[int] = set()  # slots with a chore that empties them
        self._retry_at = 0.0

    def __len__(self) -> int:
        return len(self._asked)

    def __contains__(self, number: int) -> bool:
        return number in self._asked

    def ask(self, slot: Slot, request: int) -> None:
        """Release `slot` as soon as its last process is gone, and answer `request` then."""
        self._asked.setdefault(slot.number, []).append(request)

    def go_on(self) -> None:
        """Vacate the slots that have become idle."""
        for number in list(self._asked):
            slot = self._slots.leased.get(number)  # None: it is being emptied already
            if slot is None or self._busy(slot):
                continue
            try:
                kept = self._requests.vacate(slot)
            except StageError as error:
                self._released(slot, error)
            else:
                self._empty(slot, kept)

    def retry_in(self) -> float | None:
        """Seconds until slots that could not be emptied are tried again; None: there are none."""
        if not self._slots.stuck - self._emptying:
            return None
        return max(0.0, self._retry_at - time.monotonic())

    def retry(self) -> None:
        """Try once more to empty them."""
        self._retry_at = time.monotonic() + STUCK_S
        for number in sorted(self._slots.stuck - self._emptying):
            self._empty(self._slots.emptying[number], [])

    def _empty(self, slot: Slot, kept: list[int]) -> None:
        """Have everything of a slot removed, in a chore."""
        self._emptying.add(slot.number)
        state = self._requests.config.state_dir
        try:
            self._chores.begin(
                f"empty slot {slot.number}",
                lambda: asdict(proof.empty(state, slot.number, slot.uid, kept)),
                lambda left: self._emptied(slot, Remains(**left) if left else _UNKNOWN),
                [*kept, slot.lock.fileno()],
            )
        except StageError as error:  # no process can be made
            self._emptied(slot, Remains([str(error)], []))
        finally:
            wire.close_all(kept)

    def _emptied(self, slot: Slot, left: Remains) -> None:
        self._emptying.discard(slot.number)
        again = slot.number in self._slots.stuck
        try:
            self._requests.emptied(slot, left)
        except StageError as error:
            if not again:
                log.event("slot.stuck", logging.ERROR, slot=slot.number, error=error.message)
            self._released(slot, error)
        else:
            self._released(slot, None)

    def _released(self, slot: Slot, error: StageError | None) -> None:
        for request in self._asked.pop(slot.number, []):
            self._answer(request, error)
