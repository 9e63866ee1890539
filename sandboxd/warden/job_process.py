"""The job process: one child of the warden that does the jobs of slots, one after the other.

A fork of the warden costs more than such a job does (background.py). So the jobs that come with
each session are data: the name of a function, its arguments, descriptors. The warden forks this
process with the first of them, and the process stays.

    warden -> process   {"job", "function", "arguments"} and descriptors, such as the lease of a uid
    process -> warden   {"result"}    in the order of the jobs; null: the job has failed

The process closes the descriptors of a job once the job is done. It dies with the warden: the next
one makes a slot again, and reclaims one again. A job may have to wait for the disk: then the
process is not free, and further jobs are done in children of their own.
"""

from __future__ import annotations

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

from .. import log, wire
from ..errors import StageError
from ..jail import syscalls
from .doctor.trial import die_with
from .fork import fork

TITLE = "sandboxd: jobs"

QUEUE_MAX = 64
"""Jobs that the process has at a time; their messages fit the buffer of its socket."""

Done = Callable[[Any], None]
"""Called in the warden's loop with the result, or with None when the job has failed."""


@dataclass(frozen=True, slots=True)
class Task:
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
            # Operators know the event by its old name.
            log.event("chore.failed", logging.ERROR, chore=self.name, status=status)
        self.done(result)


class JobProcess:
    """The job process of one warden. `functions` are those that tasks may name."""

    def __init__(
        self, selector: selectors.BaseSelector, functions: Sequence[Callable[..., Any]]
    ) -> None:
        self._selector = selector
        self._functions = {one.__name__: one for one in functions}
        self._process: tuple[int, socket.socket] | None = None
        self._jobs: deque[Job] = deque()
        self._since = 0.0  # when the first of the jobs was begun

    @property
    def jobs(self) -> int:
        """How many jobs it has."""
        return len(self._jobs)

    @property
    def lives(self) -> bool:
        """There is a process."""
        return self._process is not None

    def take(self, job: Job, patience_s: float) -> bool:
        """Give a job to the process; False: it is no task, or the process has been at work on one
        job for longer than `patience_s`."""
        if not isinstance(job.work, Task) or not self._is_free(patience_s):
            return False
        try:
            _, sock = self._process or self._start()
            message = {"job": job.name, "function": job.work.function.__name__}
            wire.send(sock, {**message, "arguments": job.work.arguments}, list(job.keep))
        except (OSError, StageError, wire.WireError):  # it is ending, or the host has no room
            return False
        if not self._jobs:
            self._since = time.monotonic()
        self._jobs.append(job)
        return True

    def _is_free(self, patience_s: float) -> bool:
        waits = self._jobs and time.monotonic() - self._since > patience_s
        return not waits and len(self._jobs) < QUEUE_MAX

    def _start(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        functions, warden = self._functions, os.getpid()
        with theirs:
            try:
                pid = fork([theirs.fileno()], lambda: _serve(theirs, functions, warden))
            except StageError:
                ours.close()
                raise
        ours.setblocking(False)
        self._process = pid, ours
        self._selector.register(ours, selectors.EVENT_READ, self._hear)
        return self._process

    def _hear(self) -> bool:
        """Take in the result of the first job; False: there is none. The jobs of a process that
        ends fail when it has ended, not before: until then it may still be at work."""
        assert self._process
        pid, sock = self._process
        try:
            message = wire.receive_plain(sock)
        except BlockingIOError:
            return False
        if message is None or not self._jobs:
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
                os.kill(pid, signal.SIGKILL)  # not collected yet: the pid is still its own
            return False
        job, self._since = self._jobs.popleft(), time.monotonic()
        job.over(message.get("result"), 0)
        return True

    def collected(self, pid: int, status: int) -> bool:
        """A child of the warden has ended. True if it was the process: its jobs have failed, but
        for those whose results it has sent."""
        if not self._process or self._process[0] != pid:
            return False
        while self._hear():
            pass
        sock, jobs = self._process[1], self._jobs
        self._process, self._jobs = None, deque()
        if sock in self._selector.get_map():
            self._selector.unregister(sock)
        sock.close()
        for job in jobs:
            job.over(None, status)
        return True

    def retire(self) -> None:
        """Let the process end when its jobs are done. Another one follows when there are jobs."""
        if self._process:
            self._process[1].shutdown(socket.SHUT_WR)


def _serve(sock: socket.socket, functions: Mapping[str, Callable[..., Any]], warden: int) -> None:
    """Do the jobs that come, up to the end of the warden."""
    log.became("job")
    die_with(warden)
    syscalls.set_process_title(TITLE)
    while True:
        message, descriptors = wire.receive(sock)
        if message is None:
            os._exit(0)
        name = message["job"]
        syscalls.set_process_title(f"sandboxd: job {name}")
        try:
            result = functions[message["function"]](**message["arguments"])
            answer = wire.encode({"result": result})
        except Exception:  # of any kind: the warden goes on, and its log has the reason
            logging.getLogger(__name__).exception("the background job %s has failed", name)
            answer = wire.encode({"result": None})
        wire.close_all(descriptors)
        sock.send(answer)
        syscalls.set_process_title(TITLE)
