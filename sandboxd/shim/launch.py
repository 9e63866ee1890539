"""The shim's side of its init: make one, give it to a session, speak with it.

Nothing before `claim` depends on whose run it will be.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .. import wire
from ..errors import StageError
from ..jail import namespaces
from ..jail.enter import Jail, JailSession
from ..jail.stage import stage
from . import init
from .denied_calls import DeniedCalls


@dataclass
class Init:
    """A run's init: its pid as the shim sees it, and the socket to it."""

    pid: int
    sock: socket.socket

    def start(
        self,
        argv: list[str],
        environ: dict[str, str],
        fds: list[int],
        terminal: str = "",
        rlimits: Mapping[int, int] | None = None,
    ) -> None:
        """Have a step started on the three descriptors `fds`, or on the terminal of that name,
        with these of its rlimits lowered."""
        message = {
            "argv": argv, "environ": environ, "terminal": terminal,
            "rlimits": list((rlimits or {}).items()),
        }  # fmt: skip
        wire.send(self.sock, message, fds)

    def signal(self, number: int) -> None:
        """Send a signal to the process group of the running step, if there is one."""
        wire.send(self.sock, {"signal": number})

    def receive(self) -> dict[str, Any] | None:
        """What init says; None when it is gone. Raises StageError when it reports one."""
        message, fds = self.receive_with()
        wire.close_all(fds)
        return message

    def receive_with(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The same, and the descriptors that came along."""
        try:
            message, fds = wire.receive(self.sock)
        except ConnectionResetError:  # it ended with something unread; what it said is still here
            message, fds = wire.receive(self.sock)
        if message is not None and "stage" in message:
            wire.close_all(fds)
            raise StageError(
                str(message["stage"]), str(message.get("message")), int(message.get("errno") or 0)
            )
        return message, fds

    def kill(self) -> None:
        """End init, and with it every process of the run, and wait until all are gone.

        A pid namespace's init is only collected after the kernel has killed and reaped the
        rest of it (zap_pid_ns_processes in kernel/pid_namespace.c).
        """
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def prepare(jail: Jail) -> Init:
    """Fork an init into new namespaces and let it build what is the same for all runs."""
    with stage("init"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        namespaces.apply_for_children()
        pid = os.fork()
    if pid == 0:
        ours.close()
        init.main(theirs, jail)
    theirs.close()
    return Init(pid, ours)


def claim(made: Init, session: JailSession, refused: Mapping[int, str]) -> DeniedCalls:
    """Make the init the session's; returns when it stands, every restriction read back.

    `refused` names the system calls that are the shim's to refuse from now on. Init tries one
    of them, so that its answer is part of the proof.
    """
    message = {
        "uid": session.uid,
        "gid": session.gid,
        "limits": asdict(session.limits),
        "folders": [[folder.name, folder.attributes] for folder in session.folders],
    }
    fds = [session.workdir, session.tmp, *(folder.source for folder in session.folders)]
    with stage("claim"):
        with contextlib.suppress(BrokenPipeError):  # it has ended, and said why
            wire.send(made.sock, message, fds)
        wire.close_all(fds)
    answer, fds = made.receive_with()
    if answer is None or len(fds) != 1:
        raise StageError("claim", "init ended before it was filtered")
    denied = DeniedCalls(fds[0], refused)
    with stage("seccomp"):
        while not _said_something(made, denied):
            denied.answer()
    if made.receive() is None:
        raise StageError("claim", "init ended before it was ready")
    return denied


def _said_something(made: Init, denied: DeniedCalls) -> bool:
    """Wait for init, or for a call of it to be refused; whether it was init."""
    ready, _, _ = select.select([made.sock.fileno(), denied.fileno()], [], [])
    return made.sock.fileno() in ready
