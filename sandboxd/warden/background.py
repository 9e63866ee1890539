"""Background jobs: acts that take too long for the warden's loop, each in a forked child.

A job is a function whose result is JSON. The child writes the result into a memfd
(memfd_create(2)) and ends, and the loop passes the result on when it collects the child. The job
has a copy of the warden's memory (fork). Its changes there are lost, so it returns all that the
warden has to know.

The child closes all descriptors but its own. If the warden dies, a job runs to its end, and its
descriptors keep all that they stand for, such as the lease of a uid. A job that is data (JobSpec)
ends with the warden: the next one does it again.

A fork of the warden costs more than most jobs do: the child copies each page that either of the two
writes. So jobs that nobody waits for are put off (`put_off`), until the loop has been at rest for a
moment. Then job processes do those that are data (job_process.py), and one child all others.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import log
from ..errors import StageError
from ..jail import syscalls
from ..jail.stage import stage
from .fork import die_with, fork
from .job_process import Done, Job, JobProcesses, JobSpec

RESULT_MAX = 64 << 20

REST_S = 0.01
"""Jobs that are put off begin when the loop has had no request for so long."""

LATE_S = 0.1
"""They begin after so long in any case."""

PATIENCE_S, LATE_PATIENCE_S = 0.05, 0.5
"""A job process that has been at work on one job for longer gets no jobs that somebody waits for,
and none at all."""

RETRY_S = 1.0
"""The next try, when no process can be made."""


@dataclass(frozen=True, slots=True)
class _Child:
    jobs: list[Job]
    result: int


class BackgroundJobs:
    """The background jobs that are running, by pid, and those that are put off. Without job
    processes all are done in children of their own."""

    def __init__(self, processes: JobProcesses | None = None) -> None:
        self._processes = processes
        self._running: dict[int, _Child] = {}
        self._put_off: list[Job] = []
        self._due = self._latest = 0.0

    def __len__(self) -> int:
        running = sum(len(child.jobs) for child in self._running.values())
        return running + len(self._put_off) + (self._processes.jobs if self._processes else 0)

    @property
    def are_over(self) -> bool:
        """No job is left, and no process of jobs."""
        return not (len(self) or (self._processes and self._processes.live))

    def retire(self) -> None:
        """Let the job processes end, since the daemon ends, or its configuration has changed."""
        if self._processes:
            self._processes.retire()

    def begin(self, name: str, work: Callable[[], Any], done: Done, keep: Sequence[int]) -> None:
        """Do `work` at once, in a process that gets the descriptors `keep`: a job process, if it
        is a JobSpec. Raises StageError."""
        job = Job(name, work, done, keep)
        if not (self._processes and self._processes.take(job, PATIENCE_S)):
            self._fork([job])

    def put_off(self, name: str, work: Callable[[], Any], done: Done, keep: Sequence[int]) -> None:
        """Do `work` soon, in a process that also does other such work: a job process, if it is
        a JobSpec. The process gets the descriptors `keep`, which stay open until then."""
        now = time.monotonic()
        if not self._put_off:
            self._latest = now + LATE_S
            self._due = now + REST_S
        self._put_off.append(Job(name, work, done, keep))

    def is_at_work(self) -> None:
        """The loop has just served a request: work that is put off waits for a rest."""
        self._due = min(self._latest, time.monotonic() + REST_S)

    def due_in(self) -> float | None:
        """Seconds until `begin_due` has something to do; None: nothing is put off."""
        if self._put_off:
            return max(0.0, self._due - time.monotonic())
        return self._processes.due_in() if self._processes else None

    def begin_due(self, now: bool = False) -> None:
        """Begin the work that is put off, if it is due or somebody waits for it `now`."""
        if self._processes:
            self._processes.maintain()
        if not self._put_off or not (now or self._due <= time.monotonic()):
            return
        jobs, self._put_off = self._put_off, []
        own = [
            job
            for job in jobs
            if not (self._processes and self._processes.take(job, LATE_PATIENCE_S))
        ]
        try:
            if own:
                self._fork(own)
        except StageError:  # no process can be made; the log has it by the requests that fail
            self._put_off = own
            self._due = self._latest = time.monotonic() + RETRY_S

    def _fork(self, jobs: list[Job]) -> None:
        with stage("job"):
            result = os.memfd_create(f"sandboxd-{jobs[0].name}", os.MFD_CLOEXEC)
        try:
            keep = [fd for job in jobs for fd in job.keep]
            warden = os.getpid()
            pid = fork([*keep, result], lambda: _work(jobs, result, warden))
        except BaseException:  # the descriptor must not leak; raised again
            os.close(result)
            raise
        self._running[pid] = _Child(jobs, result)

    def collected(self, pid: int, status: int) -> bool:
        """A child has ended. True if it did jobs; the `done` of each has been called then."""
        if self._processes and self._processes.collected(pid, status):
            return True
        child = self._running.pop(pid, None)
        if child is None:
            return False
        results: list[Any] = []
        try:
            if not status:
                results = json.loads(os.pread(child.result, RESULT_MAX, 0))
        except ValueError:
            pass
        finally:
            os.close(child.result)
        results = results or [None] * len(child.jobs)
        for job, result in zip(child.jobs, results, strict=True):
            job.over(result, status)
        return True


def reported(act: Callable[[], object]) -> Callable[[], dict[str, Any]]:
    """The work of a job whose result is the StageError of `act` as its fields; none: it is done.
    `failure` reads the result."""

    def work() -> dict[str, Any]:
        try:
            act()
        except StageError as error:
            return {"stage": error.stage, "message": error.message, "errno": error.errno}
        return {}

    return work


def failure(result: dict[str, Any] | None) -> StageError | None:
    """The error of a job of `reported`; None: its act is done."""
    if result is None:
        return StageError("job", "the background job has failed")
    return StageError(**result) if result else None


def _work(jobs: Sequence[Job], result: int, warden: int) -> None:
    log.became("job")
    if any(isinstance(job.work, JobSpec) for job in jobs):
        die_with(warden)
    results: list[str] = []
    for job in jobs:
        syscalls.set_process_title(f"sandboxd: job {job.name}")
        try:
            results.append(json.dumps(job.work()))
        except Exception:  # of any kind: the warden goes on, and its log has the reason
            logging.getLogger(__name__).exception("the background job %s has failed", job.name)
            results.append("null")
    text = f"[{','.join(results)}]".encode()
    while text:
        text = text[os.write(result, text) :]
    os._exit(0)
