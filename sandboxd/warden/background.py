"""What takes too long for the warden's loop, done in forked children: one child a chore.

A chore is a function whose result is JSON; the child writes it into a memfd (memfd_create(2))
and ends, and the loop hears of it when it collects the child. What a chore needs of the warden it
has by the fork; what it changes beside the host it has to return.

The child keeps the descriptors that it is told to keep, and nothing else. If the warden dies the
chore goes on to its end, and so does what its descriptors hold: the lease of a uid, say.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import log
from ..jail import syscalls
from ..jail.stage import stage
from .runs.launcher import fork

RESULT_MAX = 64 << 20

Done = Callable[[Any], None]
"""Called in the warden's loop with the result; None: the chore has failed."""


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    result: int
    done: Done


class BackgroundJobs:
    """The chores that are under way, by pid."""

    def __init__(self) -> None:
        self._under_way: dict[int, _Job] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, name: str, work: Callable[[], Any], done: Done, keep: Sequence[int]) -> None:
        """Do `work` in a child that has the descriptors `keep`. Raises StageError."""
        with stage("chore"):
            result = os.memfd_create(f"sandboxd-{name}", os.MFD_CLOEXEC)
        try:
            pid = fork([*keep, result], lambda: _work(name, work, result))
        except BaseException:
            os.close(result)
            raise
        self._under_way[pid] = _Job(name, result, done)

    def collected(self, pid: int, status: int) -> bool:
        """A child has ended: whether it was a chore, whose `done` has then been called."""
        chore = self._under_way.pop(pid, None)
        if chore is None:
            return False
        try:
            found = None if status else json.loads(os.pread(chore.result, RESULT_MAX, 0))
        except ValueError:
            found = None
        finally:
            os.close(chore.result)
        if found is None:
            log.event("chore.failed", logging.ERROR, chore=chore.name, status=status)
        chore.done(found)
        return True


def _work(name: str, work: Callable[[], Any], result: int) -> None:
    syscalls.set_process_title(f"sandboxd: chore {name}")
    log.became("chore")
    try:
        text = json.dumps(work()).encode()
        while text:
            text = text[os.write(result, text) :]
    except Exception:  # whatever it was: the warden goes on, and its log says what
        logging.getLogger(__name__).exception("the chore %s has failed", name)
        os._exit(1)
    os._exit(0)
