"""Another interpreter of root, a child of the warden: its start with a file of values, the socket
to it, and its end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from .. import log
from ..wire import messages
from .inherited import SOCKET, VALUES

_START = "import sys; sys.path[:] = {path!r}; from {module} import main; main()"
_ENVIRON = ("PATH", "LANG", "LC_ALL", "JOURNAL_STREAM")


def start(module: str, values: int, environ: tuple[str, ...] = ()) -> tuple[int, socket.socket]:
    """Start `main` of a module in a child of this process, with these further variables; its pid,
    and the socket to it. The file `values` stays the caller's. Raises OSError."""
    code = _START.format(path=sys.path, module=module)
    argv = [sys.executable, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", "-c", code]
    names = (*_ENVIRON, *environ)
    variables = {name: os.environ[name] for name in names if name in os.environ}
    # Functions of libraries are found now, and not in each process that is forked (ld.so(8)).
    variables["LD_BIND_NOW"] = "1"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs, contextlib.ExitStack() as stack:
            # Above the numbers that they get: no copy closes the other's source.
            high = [os.dup(fd) for fd in (theirs.fileno(), values)]
            ends = list(zip(high, (SOCKET, VALUES), strict=True))
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in ends]
            for fd in high:
                stack.callback(os.close, fd)
            pid = os.posix_spawn(
                sys.executable, argv, variables, file_actions=actions, setsigmask=(),
                setsigdef=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD),
            )  # fmt: skip
    except BaseException:  # the socket must not leak; raised again
        ours.close()
        raise
    ours.setblocking(False)
    return pid, ours


class Interpreter:
    """The interpreter `name` of this moment, if there is one.

    `heard` takes its messages, and `ended` is called once it is gone, whatever the reason.
    """

    def __init__(
        self,
        name: str,
        selector: selectors.BaseSelector,
        heard: Callable[[dict[str, Any]], None],
        ended: Callable[[], None],
    ) -> None:
        self._name = name
        self._selector = selector
        self._heard = heard
        self._ended = ended
        self._sock: socket.socket | None = None
        self.pid = 0

    @property
    def runs(self) -> bool:
        """There is one."""
        return self._sock is not None

    def start(self, module: str, values: int, environ: tuple[str, ...] = ()) -> None:
        """Start it, and close the file `values`. Raises OSError."""
        try:
            self.pid, self._sock = start(module, values, environ)
        finally:
            os.close(values)
        self._selector.register(self._sock, selectors.EVENT_READ, self._hear)

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Send it a message. Raises OSError."""
        assert self._sock
        messages.send(self._sock, message, fds)

    def _hear(self) -> None:
        """Take in a message, or its end."""
        assert self._sock
        try:
            message = messages.receive_plain(self._sock)
        except BlockingIOError:
            return
        if message is None:
            self._log_end()
            self.stop()
        else:
            self._heard(message)

    def collected(self, pid: int) -> None:
        """A child of the warden has ended. It need not be this one."""
        if self.runs and self.pid == pid:
            self._log_end()
            self._forget()

    def stop(self, wait: bool = False) -> None:
        """End it, if there is one, and with `wait` collect it."""
        if self.runs:
            pid = self.pid
            os.kill(pid, signal.SIGKILL)  # not collected yet: the pid is still its own
            if wait:
                os.waitpid(pid, 0)
            self._forget()

    def _forget(self) -> None:
        assert self._sock
        self._selector.unregister(self._sock)
        self._sock.close()
        self._sock, self.pid = None, 0
        self._ended()

    def _log_end(self) -> None:
        log.event(f"{self._name}.ended", logging.ERROR, pid=self.pid)
