"""The three protocols between sandboxd and systemd: sockets, notifications and the watchdog.

A drop-in of the service, which scripts/install writes, opens the paths of workspaces to the daemon.

Sockets that systemd has opened for the daemon are the descriptors from 3 on (sd_listen_fds(3)).
The daemon reports its state in datagrams (sd_notify(3)). systemd restarts a daemon that has been
silent for WATCHDOG_USEC (sd_watchdog_enabled(3)). The api pings the warden, and the warden
notifies systemd when a ping arrives, so the watchdog covers both loops.

Each protocol is announced by environment variables. Without them the functions here do nothing.
Each variable is removed from the environment when it is read, since no child needs it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping, Sequence

FIRST_FD = 3

STOP_S = 30.0
"""Upper bound of the seconds that the end of a daemon without runs takes."""


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """The listening sockets that systemd opened for this process, with close-on-exec set."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        sockets.append(socket.socket(fileno=fd))
    return sockets


def watchdog_s(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """Seconds of silence after which systemd restarts the service; None: never."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None


class Notify:
    """The sender of notifications. Nothing depends on their arrival."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path

    def ready(self, status: str) -> None:
        """The daemon serves; also after `reloading`."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The daemon reads its configuration again, until `ready`."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self, status: str, grace_s: float = 0) -> None:
        """The daemon has begun to end and may take `grace_s` seconds longer than usual."""
        more = [f"EXTEND_TIMEOUT_USEC={int((grace_s + STOP_S) * 1e6)}"] if grace_s else []
        self._send("STOPPING=1", f"STATUS={status}", *more)

    def alive(self, status: str) -> None:
        """Both halves of the daemon are alive."""
        self._send("WATCHDOG=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),  # a full queue or no receiver: nothing depends on it
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
        ):
            sock.sendto("\n".join(lines).encode(), self._address)


HIDDEN = ("/home", "/root", "/run/user")
"""The directories that ProtectHome= hides from the service."""


def workspaces_dropin(paths: Sequence[str]) -> str:
    """The drop-in of the service that lets the daemon see and change the paths of [workspaces]: ""
    without a path. ProtectSystem= and ProtectHome= stay for all other directories. A path that is
    missing does not stop the service."""
    if not paths:
        return ""
    hidden = [path for path in paths if any(f"{path}/".startswith(f"{one}/") for one in HIDDEN)]
    lines = [f"ReadWritePaths={_quoted(f'-{path}')}" for path in paths]
    if hidden:
        lines.append("ProtectHome=tmpfs")
        # systemd 252 mounts these writable and without a size, unless they are named as read-only.
        # One that is itself a path is not named: its bind mount would be read-only too.
        closed = [f"{one}:ro" for one in HIDDEN if one not in paths]
        lines.append(f"TemporaryFileSystem={' '.join(closed)}")
    lines += [f"BindPaths={_quoted('-' + path.replace(':', chr(92) + ':'))}" for path in hidden]
    head = "# Made by scripts/install from [workspaces] of the configuration."
    return "\n".join([head, "[Service]", *lines, ""])


def _quoted(value: str) -> str:
    """A value as one word of a unit (systemd.syntax(7))."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
