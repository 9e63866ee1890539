"""The shim's side of init: the fork of an init, its claim for a session, messages to it.

An init that is prepared and not yet claimed does not depend on the session or the run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import StageError
from ..host.descriptors import readable
from ..jail import namespaces
from ..jail.enter import Jail, JailSession
from ..jail.stage import stage
from ..model import record
from ..wire import messages
from . import init, plain_command
from .denied_calls import DeniedCalls
from .run_spec import packed_folders


@dataclass
class Init:
    """The init of a run: its pid in the shim's pid namespace, and the socket to it."""

    pid: int
    sock: socket.socket

    def start(
        self,
        shell: str,
        command: str,
        environ: dict[str, str],
        fds: list[int],
        terminal: str = "",
        rlimits: Mapping[int, int] | None = None,
    ) -> None:
        """Start a step on the three descriptors `fds`, or on the terminal with the name `terminal`,
        with the one descriptor in `fds`, if there is one, as standard error.
        `rlimits` are the resource limits that this step lowers."""
        message = {
            "argv": [shell, "-c", command], "words": plain_command.argv(shell, command, environ),
            "environ": environ, "terminal": terminal, "rlimits": list((rlimits or {}).items()),
        }  # fmt: skip
        messages.send(self.sock, message, fds)

    def signal(self, number: int, every: bool = False) -> None:
        """Send a signal to the process group of the current step, if a step runs, or to `every`
        process of the step."""
        messages.send(self.sock, {"signal": number, "all": every})

    def receive(self) -> dict[str, Any] | None:
        """The next message of init; None when init has gone. Raises the StageError that init
        reports."""
        message, fds = self.receive_with_fds()
        messages.close_all(fds)
        return message

    def receive_with_fds(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and its descriptors."""
        try:
            message, fds = messages.receive(self.sock)
        except ConnectionResetError:  # init ended with unread data; its own messages are still here
            message, fds = messages.receive(self.sock)
        if message is not None and "stage" in message:
            messages.close_all(fds)
            raise StageError(
                str(message["stage"]), str(message.get("message")), int(message.get("errno") or 0)
            )
        return message, fds

    def kill(self) -> None:
        """Kill init and with it every process of the run. Returns when all have gone: the kernel
        lets the init of a pid namespace be reaped only after it has killed and reaped all other
        processes of the namespace (zap_pid_ns_processes in kernel/pid_namespace.c)."""
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def prepare(jail: Jail) -> Init:
    """Fork an init into new namespaces. It begins to build the parts of the jail that all runs
    share."""
    with stage("init"):
        shim_end, init_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        namespaces.apply_for_children()
        pid = os.fork()
    if pid == 0:
        shim_end.close()
        init.main(init_end, jail)
    init_end.close()
    return Init(pid, shim_end)


def await_prepared(run_init: Init) -> None:
    """Wait until an init has done all that needs no run."""
    if run_init.receive() is None:
        raise StageError("prepare", "init ended before it was prepared")


def send_claim(run_init: Init, session: JailSession) -> None:
    """Bind the init to a run, whose descriptors are closed here. `await_claim` comes next; the init
    may not be prepared yet."""
    message = {
        "uid": session.uid,
        "gid": session.gid,
        "group": session.group.dirs,
        "runtime": session.runtime,
        "limits": record(session.limits),
        "folders": packed_folders(session.folders),
    }
    fds = [session.workdir, session.tmp, *(folder.source for folder in session.folders)]
    with stage("claim"):
        with contextlib.suppress(BrokenPipeError):  # init has ended; its message says why
            messages.send(run_init.sock, message, fds)
        messages.close_all(fds)


def await_claim(
    run_init: Init, refused: Mapping[int, str], open_sockets: Callable[[], int]
) -> DeniedCalls:
    """Wait until the jail is complete and every restriction has been read back.

    `refused` names the system calls that the shim refuses from now on, by number. Init tries one of
    them, so the proof includes the shim's answer. `open_sockets` counts the sockets that programs
    have open (bounded_calls.py).
    """
    answer, fds = run_init.receive_with_fds()
    if answer is not None and "prepared" in answer:
        answer, fds = run_init.receive_with_fds()
    if answer is None or len(fds) != 1:
        raise StageError("claim", "init ended before it was filtered")
    denied = DeniedCalls(fds[0], refused, open_sockets)
    with stage("seccomp"):
        while not _wait_for_message(run_init, denied):
            denied.answer()
    if run_init.receive() is None:
        raise StageError("claim", "init ended before it was ready")
    return denied


def _wait_for_message(run_init: Init, denied: DeniedCalls) -> bool:
    """Wait for a message of init (True) or for a call to refuse (False)."""
    init = run_init.sock.fileno()
    return init in readable(init, denied.fileno())
