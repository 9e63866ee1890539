"""The wait of a warm shim between two runs of its session.

A run that has ended by itself leaves nothing in its jail but the files of its session. Its shim and
its init may then stay for the next run of the same session: it finds the jail as the next step of
one run would. verdict.is_clean says which runs have ended so. The warden decides how long a shim
stays warm, and ends it by closing the socket.

    shim -> warden   {"warm": run}       the run is over, and the shim can take the next one
    warden -> shim   an order            (RunSpec.next_order)
    shim -> warden   {"claimed": run}    nothing of the run has begun before

All that outlives a process of a program is removed before: the IPC objects (ipc.py). Memory that a
program of another run of the session still holds would count against the next run, and a socket
that is left would have a port that the next run wants (sockets.py). The shim does not stay then.
"""

from __future__ import annotations

import os
import socket

from ..errors import StageError
from ..host.descriptors import readable
from ..jail import syscalls
from ..wire import messages
from . import ipc
from .control import READERS_MAX
from .run import RunExecution
from .run_spec import ORDER, RunSpec
from .sockets import Sockets

HELD_MAX = 1 << 20
"""Bytes of files in memory with which a shim may stay."""


def await_next_run(
    sock: socket.socket, execution: RunExecution, sockets: Sockets
) -> RunSpec | None:
    """Wait for the next run of the session after `execution`; None: this was the last one."""
    spec = execution.spec
    _close(execution)
    if not (spec.stays and execution.is_clean):
        return None
    try:
        ipc.clear()
        if spec.group.shared_memory() > HELD_MAX or sockets.are_left():
            return None
        syscalls.set_process_title(f"sandboxd: shim slot {spec.slot} warm")
        messages.send(sock, {"warm": spec.run})
        init = execution.init.sock.fileno()
        if init in readable(sock.fileno(), init):
            return None
        message, fds = messages.receive(sock, ORDER)
        if message is None:
            return None
        following = spec.following(message, fds)
        # The connection names this process, not the warden, to a later warden; see main.py.
        following.listener.listen(READERS_MAX)
        messages.send(sock, {"claimed": following.run})
        syscalls.set_process_title(f"sandboxd: shim slot {spec.slot} run {following.run}")
    except (OSError, StageError):  # the warden has gone or has taken another, or nothing is clear
        return None
    return following


def _close(execution: RunExecution) -> None:
    """Close all that belongs to the run. Its readers see that it is over."""
    spec = execution.spec
    execution.control.close()
    execution.input.detach()
    if execution.broker:
        execution.broker.end()
    execution.selector.close()
    files = [spec.console, spec.journal]
    if spec.stdin is not None and not execution.stdin_used:
        files.append(spec.stdin)
    for fd in files:
        os.close(fd)
