"""The job processes: children of the warden that do the jobs of slots, one after the other.

A fork of the warden costs more than such a job does (background.py). So the jobs that come with
each session are data: the name of a function, its arguments, descriptors. The warden forks a
process for the first of them, and the process stays until it has had none for IDLE_S. Most of a
job's time is spent with waiting for the disk, so there are several processes if needed.

    warden -> process   {"job", "function", "arguments"} and descriptors, such as the lease of a uid
    process -> warden   {"result"}    in the order of the jobs; null: the job has failed

A process closes the descriptors of a job once the job is done. It dies with the warden: the next
warden makes a slot again, and reclaims one again. While a disk hangs no process is free, and
further jobs are done in children of their own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import log
from ..errors import StageError
from ..jail import syscalls
from ..wire import messages
from .fork import die_with, fork

TITLE = "sandboxd: jobs"

MOST = 4
"""Processes at a time."""

QUEUE_MAX = 64
"""Jobs that a process has at a time; their messages fit the buffer of its socket."""

IDLE_S = 5.0
"""A process without a job ends after so long."""

Done = Callable[[Any], None]
"""Called in the warden's loop with the result, or with None when the job has failed."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Work as data. The arguments and the result of `function` are JSON."""

    function: Callable[..., Any]
    arguments: dict[str, Any]

    def __call__(self) -> Any:
        return self.function(**self.arguments)


@dataclass(frozen=True, slots=True)
class Job:
    """A job. Its process gets the descriptors `keep`."""

    name: str
    work: Callable[[], Any]
    done: Done
    keep: Sequence[int]

    def over(self, result: Any, status: int) -> None:
        """Take in the result; None: the job has failed, and `status` is that of its process."""
        if result is None:
            log.event("job.failed", logging.ERROR, job=self.name, status=status)
        self.done(result)


class JobProcesses:
    """The job processes of one warden. `functions` are those that jobs may name."""

    def __init__(
        self, selector: selectors.BaseSelector, functions: Sequence[Callable[..., Any]]
    ) -> None:
        self._selector = selector
        self._functions = {one.__name__: one for one in functions}
        self._processes: dict[int, _JobProcess] = {}

    @property
    def jobs(self) -> int:
        """How many jobs they have."""
        return sum(len(one.jobs) for one in self._processes.values())

    @property
    def live(self) -> bool:
        """There is a process."""
        return bool(self._processes)

    def take(self, job: Job, patience_s: float) -> bool:
        """Give a job to a process; False: its work is no JobSpec, or each process has been at work
        on its own for more than `patience_s`."""
        if not isinstance(job.work, JobSpec):
            return False
        free = [one for one in self._processes.values() if one.is_free(patience_s)]
        process = min(free, key=lambda one: len(one.jobs), default=None)
        if (process is None or process.jobs) and len(self._processes) < MOST:
            process = self._start() or process
        return process is not None and process.take(job, job.work)

    def _start(self) -> _JobProcess | None:
        """Another process; None where the host has no room for it."""
        functions, warden = self._functions, os.getpid()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return None
        with theirs:
            try:
                pid = fork([theirs.fileno()], lambda: _serve(theirs, functions, warden))
            except StageError:
                ours.close()
                return None
        ours.setblocking(False)
        process = self._processes[pid] = _JobProcess(pid, ours, self._selector)
        return process

    def due_in(self) -> float | None:
        """Seconds until `maintain` has something to do; None: nothing but an event does that."""
        rests = [one.since for one in self._processes.values() if one.is_idle]
        return max(0.0, min(rests) + IDLE_S - time.monotonic()) if rests else None

    def maintain(self) -> None:
        """Let processes end that have had no job for a while."""
        for one in self._processes.values():
            if one.is_idle and time.monotonic() - one.since >= IDLE_S:
                one.retire()

    def retire(self) -> None:
        """Let the processes end when their jobs are done. Others follow when there are jobs."""
        for one in self._processes.values():
            one.retire()

    def collected(self, pid: int, status: int) -> bool:
        """A child of the warden has ended. True if it was a process: its jobs have failed, but for
        those whose results it has sent."""
        process = self._processes.pop(pid, None)
        if process:
            process.collected(status)
        return process is not None


class _JobProcess:
    """One process, and its socket.

    jobs   those that it has, the first one under way
    since  when it began with the first one, or has finished the last one
    """

    def __init__(self, pid: int, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        self._pid = pid
        self._sock = sock
        self._selector = selector
        self._is_ending = False
        self.jobs: deque[Job] = deque()
        self.since = time.monotonic()
        selector.register(sock, selectors.EVENT_READ, self._hear)

    @property
    def is_idle(self) -> bool:
        """It waits for a job."""
        return not (self.jobs or self._is_ending)

    def is_free(self, patience_s: float) -> bool:
        """It can be given a job."""
        waits = self.jobs and time.monotonic() - self.since > patience_s
        return not (waits or self._is_ending) and len(self.jobs) < QUEUE_MAX

    def take(self, job: Job, spec: JobSpec) -> bool:
        """Send it a job; False when that fails."""
        message = {"job": job.name, "function": spec.function.__name__}
        try:
            messages.send(self._sock, {**message, "arguments": spec.arguments}, list(job.keep))
        except (OSError, messages.WireError):
            return False
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs.append(job)
        return True

    def _hear(self) -> None:
        """Take in a result, or the end. The jobs of a process that ends fail when it has ended, not
        before: until then it may still be at work."""
        try:
            if not self._take_result():
                self._deafen()
                os.kill(self._pid, signal.SIGKILL)  # not collected yet: the pid is still its own
        except BlockingIOError:
            pass

    def _take_result(self) -> bool:
        """Take in the result of the first job; False: none can come any more. Raises
        BlockingIOError when none has come yet."""
        message = messages.receive_plain(self._sock)
        if message is None or not self.jobs:
            return False
        job, self.since = self.jobs.popleft(), time.monotonic()
        job.over(message.get("result"), 0)
        return True

    def retire(self) -> None:
        """Let it end when its jobs are done."""
        if not self._is_ending:
            self._is_ending = True
            self._sock.shutdown(socket.SHUT_WR)

    def collected(self, status: int) -> None:
        """It has ended with this status, and was waited for."""
        with contextlib.suppress(BlockingIOError):
            while self._take_result():
                pass
        self._deafen()
        self._sock.close()
        for job in self.jobs:
            job.over(None, status)

    def _deafen(self) -> None:
        self._is_ending = True
        if self._sock in self._selector.get_map():
            self._selector.unregister(self._sock)


def _serve(sock: socket.socket, functions: Mapping[str, Callable[..., Any]], warden: int) -> None:
    """Do the jobs that come, up to the end of the warden."""
    log.became("job")
    die_with(warden)
    syscalls.set_process_title(TITLE)
    while True:
        message, descriptors = messages.receive(sock)
        if message is None:
            os._exit(0)
        name = message["job"]
        syscalls.set_process_title(f"sandboxd: job {name}")
        try:
            result = functions[message["function"]](**message["arguments"])
            answer = messages.encode({"result": result})
        except Exception:  # of any kind: the warden goes on, and its log has the reason
            logging.getLogger(__name__).exception("the background job %s has failed", name)
            answer = messages.encode({"result": None})
        messages.close_all(descriptors)
        sock.send(answer)
        syscalls.set_process_title(TITLE)
