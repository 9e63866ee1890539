"""What is made for a session or a folder takes the disk's time, which may be long: it is made in
chores, so that nobody else waits for it, and whoever has asked is answered then.

A slot that is being made is leased, so that nobody else gets it, and not ready, so that no request
meets it. If that fails it is released like any other, and the failure is the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ...errors import StageError
from ..background import BackgroundJobs
from ..doctor.trial import die_with
from ..requests import Requests
from .leases import Slot

Answer = Callable[[int, dict[str, Any] | StageError], None]
"""Takes the id of a request, and the fields of its answer or why it failed."""

_FAILED = {"stage": "chore", "message": "it has failed", "errno": 0}


class Provisioning:
    """What is being made.

    answer   gives its answer to a request
    release  has a slot released, whatever is in it, and calls `released` then
    """

    def __init__(
        self,
        requests: Requests,
        chores: BackgroundJobs,
        answer: Answer,
        release: Callable[[Slot, int], None],
    ) -> None:
        self._requests = requests
        self._chores = chores
        self._answer = answer
        self._release = release
        self._failed: dict[int, StageError] = {}

    def slot(self, request: dict[str, Any], id: int) -> None:
        """Lease a slot. Raises SandboxdError, OSError."""
        slot, make = self._requests.lease(request)

        def made(error: StageError | None) -> None:
            if error:
                self._failed[id] = error
                self._release(slot, id)
            else:
                slot.ready = True
                self._answer(id, {"slot": slot.number})

        try:
            self._begin(f"make slot {slot.number}", make, made, [slot.lock.fileno()])
        except StageError:  # no process can be made
            self._requests.free(slot)
            raise

    def released(self, id: int) -> StageError | None:
        """Why the slot that is released now, for this request, could not be made."""
        return self._failed.pop(id, None)

    def folder(self, request: dict[str, Any], id: int) -> None:
        """Make a virtual folder. Raises SandboxdError."""
        make = self._requests.folder_make(request)
        self._begin("make folder", make, lambda error: self._answer(id, error or {}), [])

    def _begin(
        self,
        name: str,
        make: Callable[[], None],
        made: Callable[[StageError | None], None],
        keep: list[int],
    ) -> None:
        warden = os.getpid()

        def work() -> dict[str, Any]:
            die_with(warden)  # the next one knows nothing of it
            try:
                make()
            except StageError as error:
                return {"stage": error.stage, "message": error.message, "errno": error.errno}
            return {}

        def done(told: dict[str, Any] | None) -> None:
            told = _FAILED if told is None else told
            made(StageError(**told) if told else None)

        self._chores.begin(name, work, done, keep)
