"""A session for the time of one command, on the running daemon or on a private one."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterator
from typing import Any

from .. import runtimes
from ..config import SOCKET, Config
from ..errors import ConfigError, Invalid, Refused, Unavailable
from .client import Client, ConnectionLost, words
from .daemon_socket import find_daemon
from .endpoint import is_endpoint
from .main import PRIVATE
from .private_daemon import PrivateDaemon, private_daemon
from .reporter import Reporter


def connect(named: str | None, stack: contextlib.ExitStack, say: Reporter, image: str) -> Client:
    """A client of the daemon at the socket that the user has `named`, of the daemon that runs, or
    of a private one that lives as long as `stack` is open. Raises ConfigError, also for an `image`
    that a private daemon does not have."""
    return connect_or_start(named, stack, say, image)[0]


def connect_or_start(
    named: str | None, stack: contextlib.ExitStack, say: Reporter, image: str
) -> tuple[Client, PrivateDaemon | None]:
    """As `connect`, with the private daemon if it was started."""
    if named != PRIVATE and (client := find_daemon(named)):
        return client, None
    if os.geteuid() != 0:
        raise ConfigError(
            f"no daemon listens at {SOCKET}, and a private one needs root: use sudo, or name the "
            "socket of a daemon with --socket"
        )
    try:
        runtimes.load(Config()).resolve(image)
    except Refused as error:
        raise ConfigError(str(error)) from None
    absent = "" if named == PRIVATE else "no daemon is running: "
    say.phase(f"{absent}starting a private daemon")
    daemon = stack.enter_context(private_daemon())
    return Client(daemon.socket, comes_back=False), daemon


def resources(args: argparse.Namespace) -> dict[str, Any]:
    """`config` of the session. Raises ConfigError for an --env or --limit without a value."""
    resources = {key: value for key, value in (("mem", args.mem), ("cpu", args.cpus)) if value}
    environ, limits = _settings("--env", args.env), _settings("--limit", args.limit)
    for name, value in limits.items():
        if not value:
            raise ConfigError(f"--limit {name}=: write NAME=VALUE")
    config: dict[str, Any] = {
        "environ": environ, "resources": resources, "resource_opts": limits
    }  # fmt: skip
    if any(config.values()):
        _check(config)
    return config | ({"network": args.network} if args.network else {})


def _check(config: dict[str, dict[str, Any]]) -> None:
    """Raise ConfigError for a value that every daemon refuses, before one is started."""
    from ..api.sessions import requested_limits, sizes  # third-party code, which takes a moment

    try:
        requested_limits.fields(config["resources"], config["resource_opts"])
        sizes.variables(config["environ"], "config.environ")
    except Invalid as error:
        raise ConfigError(words(str(error), error.data)) from None


def _settings(option: str, texts: list[str]) -> dict[str, str]:
    """The values of an option that is written NAME=VALUE. Raises ConfigError."""
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"{option} {text}: write NAME=VALUE")
        settings[name] = value
    return settings


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
    """Delete the session at the end of the block in any case, also after Ctrl-C. Raises Unavailable
    with the remedy when the daemon has gone and the session stays."""
    temporary = TemporarySession()
    try:
        yield temporary
    finally:
        if not temporary.preserved:
            try:
                client.call("DELETE", f"/session/{session}")
            except ConnectionLost as error:
                if not client.comes_back:
                    raise
                raise Unavailable(f"{error}; {_remedy(client.socket, session)}") from None


def _remedy(socket: str, session: str) -> str:
    """The commands for a session whose daemon has gone."""
    named = [] if socket == SOCKET else ["--socket", socket]
    get = shlex.join(["sandboxd", "get", session, ".", "--into", "DIR", "--rm", *named])
    url = f"http://sandboxd/session/{session}"
    curl = shlex.join(["curl", "--unix-socket", socket, "-X", "DELETE", url])
    if is_endpoint(socket):
        return f"the session {session} stays; this fetches its files and deletes it: {get}"
    return (
        f"the session {session} stays with its files and with a run that goes on; when the daemon "
        f"is back, this fetches the files and deletes the session: {get}; this only deletes it: "
        f"{curl}; without either, it ends after a day"
    )


def terminated(number: int, _: object) -> None:
    """A signal handler that unwinds the stack, so that the session is deleted."""
    raise SystemExit(128 + number)
