"""A session for the time of one command, on the running daemon or on a private one."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError, Refused, Unavailable
from .client import Client
from .private_daemon import PrivateDaemon, private_daemon
from .reporter import Reporter


def connect(socket: str, stack: contextlib.ExitStack, say: Reporter) -> Client:
    """A client of the running daemon, or of a private one that lives as long as `stack` is open."""
    return connect_or_start(socket, stack, say)[0]


def connect_or_start(
    socket: str, stack: contextlib.ExitStack, say: Reporter
) -> tuple[Client, PrivateDaemon | None]:
    """As `connect`, with the private daemon if it was started."""
    if client := running(socket):
        return client, None
    if os.geteuid() != 0:
        raise ConfigError(f"no daemon at {socket}, and starting one needs root; use sudo")
    say.phase("no daemon is running: starting a private one")
    daemon = stack.enter_context(private_daemon())
    return Client(daemon.socket, comes_back=False), daemon


def running(socket: str) -> Client | None:
    """A client of the daemon that listens on `socket`; None: there is no such daemon."""
    if os.path.exists(socket):
        client = Client(socket)
        try:
            client.call("GET", "/")
            return client
        except Unavailable:
            client.close()
    return None


def resources(args: argparse.Namespace) -> dict[str, Any]:
    """`config` of the session. Raises ConfigError for an --env without a value."""
    resources = {key: value for key, value in (("mem", args.mem), ("cpu", args.cpus)) if value}
    environ = {}
    for setting in args.env:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--env {setting}: write NAME=VALUE")
        environ[name] = value
    return {"environ": environ, "resources": resources}


def create(client: Client, image: str, config: dict[str, Any]) -> str:
    """A new session with the runtime `image`; its UUID. Raises ConfigError."""
    try:
        return str(client.create(image, config)["sessionId"])
    except Refused as error:
        raise ConfigError(str(error)) from None


class TemporarySession:
    """A session that is deleted at the end of its command, unless it is preserved."""

    def __init__(self) -> None:
        self.preserved = False

    def preserve(self, daemon: PrivateDaemon | None) -> None:
        """Let the session outlive the command, until it was idle for RESULTS_S; and the state of
        its private `daemon`, if it has one. Raises OSError."""
        self.preserved = True
        if daemon:
            daemon.preserve()


@contextlib.contextmanager
def deleted(client: Client, session: str) -> Iterator[TemporarySession]:
    """Delete the session at the end of the block in any case, also after Ctrl-C."""
    temporary = TemporarySession()
    try:
        yield temporary
    finally:
        if not temporary.preserved:
            client.call("DELETE", f"/session/{session}")


def terminated(number: int, _: object) -> None:
    """A signal handler that unwinds the stack, so that the session is deleted."""
    raise SystemExit(128 + number)
