"""Background jobs: acts that take too long for the warden's loop, each in a forked child.

A job is a function whose result is JSON. The child writes the result into a memfd
(memfd_create(2)) and ends, and the loop passes the result on when it collects the child. The job
has a copy of the warden's memory (fork). Its changes there are lost, so it returns all that the
warden has to know.

The child closes all descriptors but its own. If the warden dies, a job runs to its end, and its
descriptors keep all that they stand for, such as the lease of a uid.
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
from .fork import fork

RESULT_MAX = 64 << 20

Done = Callable[[Any], None]
"""Called in the warden's loop with the result, or with None when the job has failed."""


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    result: int
    done: Done


class BackgroundJobs:
    """The background jobs that are running, by pid."""

    def __init__(self) -> None:
        self._running: dict[int, _Job] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, name: str, work: Callable[[], Any], done: Done, keep: Sequence[int]) -> None:
        """Do `work` in a child that inherits the descriptors `keep`. Raises StageError."""
        with stage("job"):
            result = os.memfd_create(f"sandboxd-{name}", os.MFD_CLOEXEC)
        try:
            pid = fork([*keep, result], lambda: _work(name, work, result))
        except BaseException:  # the descriptor must not leak; raised again
            os.close(result)
            raise
        self._running[pid] = _Job(name, result, done)

    def collected(self, pid: int, status: int) -> bool:
        """A child has ended. True if it was a job; its `done` has been called then."""
        job = self._running.pop(pid, None)
        if job is None:
            return False
        try:
            result = None if status else json.loads(os.pread(job.result, RESULT_MAX, 0))
        except ValueError:
            result = None
        finally:
            os.close(job.result)
        if result is None:
            # Operators know the event by its old name.
            log.event("chore.failed", logging.ERROR, chore=job.name, status=status)
        job.done(result)
        return True


def _work(name: str, work: Callable[[], Any], result: int) -> None:
    syscalls.set_process_title(f"sandboxd: job {name}")
    log.became("job")
    try:
        text = json.dumps(work()).encode()
        while text:
            text = text[os.write(result, text) :]
    except Exception:  # of any kind: the warden goes on, and its log has the reason
        logging.getLogger(__name__).exception("the background job %s has failed", name)
        os._exit(1)
    os._exit(0)
