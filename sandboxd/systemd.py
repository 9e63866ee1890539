"""What sandboxd and its service manager tell each other: systemd's three small protocols.

Sockets that it has opened for us are descriptors from 3 up (sd_listen_fds(3)); we tell it how we
are in datagrams (sd_notify(3)); and if it hears nothing for WATCHDOG_USEC it starts us again
(sd_watchdog_enabled(3)). The api proves to the warden that its loop turns, and the warden passes
that on from its own, so the watchdog sees both halves.

Each is an environment variable or two; without them all of this does nothing. They are taken out
of the environment when they are read: they are nobody else's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

FIRST_FD = 3

STOP_S = 30.0
"""Seconds that the end takes when nothing runs any more, at most."""


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """The listening sockets that were opened for this process, to be closed on exec."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        found.append(socket.socket(fileno=fd))
    return found


def watchdog_s(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """Seconds of silence after which the service is started again; None: it never is."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None


class Notify:
    """Tells the service manager how the daemon is. It may not listen: nothing depends on it."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path

    def ready(self, status: str) -> None:
        """The daemon serves; also after `reloading`."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again, until `ready`."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self, status: str, grace_s: float = 0) -> None:
        """The daemon has begun to end, which may take so many seconds more than usual."""
        more = [f"EXTEND_TIMEOUT_USEC={int((grace_s + STOP_S) * 1e6)}"] if grace_s else []
        self._send("STOPPING=1", f"STATUS={status}", *more)

    def alive(self, status: str) -> None:
        """Both halves are at work."""
        self._send("WATCHDOG=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),  # its queue is full, or it is not there: as good as said
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
        ):
            sock.sendto("\n".join(lines).encode(), self._address)
