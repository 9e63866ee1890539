"""The trace of a process of the daemon that a fault ends: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT.

Python's faulthandler writes it in the handler of the signal: for each thread the functions that it
is in, by file, line and name, and which native modules are loaded. Values are never in it.

The trace of the warden, and of the processes that it forks, goes to standard error as it is. The
trace of the api goes into a pipe. The warden survives the api, and writes the trace to the log in
the form of the log. A pipe holds 64 KiB (pipe(7)), so an attacker who has the api can fill no
memory with it. The text is then escaped like every other value.

A run's init must not have these handlers (shim/init.py).
"""

from __future__ import annotations

import faulthandler
import os
import signal

MAX = 1 << 16
"""Bytes of a trace at most: what a pipe holds."""

_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


class TracePipe:
    """The way of the api's trace to the warden, made before the fork."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def write_end(self) -> None:
        """In the api: have a fault of this process write its trace here."""
        os.close(self._reader)
        faulthandler.enable(self._writer)

    def read_end(self) -> None:
        """In the warden: only read from now on."""
        os.close(self._writer)

    def read(self) -> list[str]:
        """In the warden, when the api has ended: the parts of its trace, one of them a thread;
        none if no fault has ended it."""
        try:
            text = os.read(self._reader, MAX).decode(errors="replace")
        except BlockingIOError:  # another process has the other end
            return []
        return [part.strip() for part in text.split("\n\n") if part.strip()]


def to_stderr() -> None:
    """Write the trace of a fault of this process, or of its children, to standard error."""
    faulthandler.enable()


def forget() -> None:
    """Let faults end this process as they do by default, without a handler of Python."""
    faulthandler.disable()


def fault(code: int) -> str | None:
    """The name of the signal of a fault that has ended a process with this exit code (negative for
    a signal, as os.waitstatus_to_exitcode has it); None for any other end."""
    return signal.Signals(-code).name if -code in _FAULTS else None
