"""The start of another interpreter of root, with a socket to it and a file with its values."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

SOCKET, VALUES = 3, 4
"""The descriptors of a new interpreter: the socket to its warden, and the file with its values."""

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


def inherited() -> socket.socket:
    """In the new interpreter: its socket. Neither descriptor goes to children."""
    for fd in (SOCKET, VALUES):
        os.set_inheritable(fd, False)
    return socket.socket(fileno=SOCKET)
