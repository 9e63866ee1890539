"""A session for as long as one command lasts, on the daemon that runs or on a private one."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError, Refused, Unavailable
from .client import Client
from .private_daemon import private_daemon
from .reporter import Reporter


def connect(socket: str, stack: contextlib.ExitStack, say: Reporter) -> Client:
    """The running daemon, or one of our own for as long as `stack` is open."""
    if os.path.exists(socket):
        client = Client(socket)
        try:
            client.call("GET", "/")
            return client
        except Unavailable:
            client.close()
    if os.geteuid() != 0:
        raise ConfigError(f"no daemon at {socket}, and starting one needs root; use sudo")
    say.phase("no daemon is running: starting a private one")
    return Client(stack.enter_context(private_daemon()), comes_back=False)


def resources(args: argparse.Namespace) -> dict[str, Any]:
    """`config` of the session. Raises ConfigError for an --env that sets nothing."""
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


@contextlib.contextmanager
def deleted(client: Client, session: str) -> Iterator[None]:
    """The session goes away whatever happens, Ctrl-C included."""
    try:
        yield
    finally:
        client.call("DELETE", f"/session/{session}")


def terminated(number: int, _: object) -> None:
    """Unwind, so that the session is deleted: a daemon that others use would keep it."""
    raise SystemExit(128 + number)
