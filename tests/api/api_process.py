"""Processes that are forked from one that has the api imported already.

To import the api takes a third of a second, to fork a process that has done so takes a few
milliseconds, and the tests start some two hundred servers.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Callable
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([
    "tests.api.serve", "tests.api.prepared",
    # uvicorn imports these by name when it starts
    "uvicorn.lifespan.on", "uvicorn.lifespan.off", "uvicorn.loops.auto", "uvicorn.loops.asyncio",
])  # fmt: skip


class ApiProcess:
    """`target(*arguments)` in a process of its own, with the methods of `subprocess.Popen`.

    Sockets among the arguments are handed on.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = _context.Process(target=target, args=arguments)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired("tests.api.serve", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()
