"""A session for the time of one command, on the running daemon or on a private one."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ... import runtimes
from ...config.settings import RESULTS_S, SOCKET, Config
from ...errors import (
    ConfigError,
    Draining,
    Full,
    Invalid,
    NotFound,
    QuotaExceeded,
    Refused,
    Unavailable,
)
from ..options import PRIVATE
from ..reporter import Reporter
from ..session_variables import variables
from .client import Client, ConnectionLost, refusal_text
from .daemon_socket import find_daemon
from .endpoint import is_endpoint
from .holder import hold
from .turn import TurnWait

if TYPE_CHECKING:
    from .private_daemon import PrivateDaemon

TRIES = 3
"""Attempts to create a session that lives until it is held."""


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
    from .private_daemon import private_daemon  # modules of the daemon, which take a moment

    absent = "" if named == PRIVATE else "no daemon is running: "
    say.phase(f"{absent}starting a private daemon")
    daemon = stack.enter_context(private_daemon())
    return Client(daemon.socket, comes_back=False), daemon


def resources(args: argparse.Namespace) -> dict[str, Any]:
    """`config` of the session. Raises ConfigError for an option without a value."""
    resources = {key: value for key, value in (("mem", args.mem), ("cpu", args.cpus)) if value}
    limits = _limits(args.limit)
    for name in ("disk", "pids"):
        if value := getattr(args, name, None):
            limits[name] = value
    environ = variables(args.env, getattr(args, "env_file", []))
    config = {"environ": environ, "resources": resources, "resource_opts": limits}
    if any(config.values()):
        _check(config)
    network = {"network": args.network} if args.network else {}
    return config | network | _mounts(getattr(args, "mounts", []))


def _mounts(folders: list[str]) -> dict[str, Any]:
    """The keys of `config` for the virtual folders of --folder. Raises ConfigError."""
    permissions = {}
    for text in folders:
        name, colon, permission = text.partition(":")
        if not name or (colon and permission not in ("ro", "rw")):
            raise ConfigError(f"--folder {text}: write NAME, or NAME:ro for read-only")
        permissions[name] = permission
    if not permissions:
        return {}
    options = {name: {"permission": text} for name, text in permissions.items() if text}
    return {"mounts": list(permissions), "mount_options": options}


def _check(config: dict[str, dict[str, Any]]) -> None:
    """Raise ConfigError for a value that every daemon refuses, before one is started."""
    from ...api.options import requested_limits, variables  # third-party code, which takes a moment

    try:
        requested_limits.fields(config["resources"], config["resource_opts"])
        variables.checked(config["environ"], "config.environ")
    except Invalid as error:
        raise ConfigError(refusal_text(str(error), error.data)) from None


def step_seconds(option: str, value: float) -> float:
    """The time limit of a step. Raises ConfigError."""
    if not 0 < value < math.inf:
        raise ConfigError(f"{option} {value:g}: a number of seconds above 0 is needed")
    return value


def _limits(texts: list[str]) -> dict[str, str]:
    """The values of --limit NAME=VALUE. Raises ConfigError."""
    limits = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value or not name:
            raise ConfigError(f"--limit {text}: write NAME=VALUE")
        limits[name] = value
    return limits


class UnknownImage(ConfigError):
    """No runtime has the name of the image."""


def create(
    client: Client, image: str, config: dict[str, Any], turn: TurnWait | None = None, name: str = ""
) -> str:
    """A new session with the runtime `image`, which this process holds; its UUID. With a `turn` the
    command waits for its own. Raises ConfigError."""
    for _ in range(TRIES):
        session = _create(client, image, config, turn, name)
        try:
            hold(client, session)
        except NotFound:  # this process was slower than the time to live
            continue
        if turn:
            _await_turn(client, session, turn)
        return session
    raise Unavailable("each new session ended before it could be held; is this machine overloaded?")


def _create(
    client: Client, image: str, config: dict[str, Any], turn: TurnWait | None, name: str
) -> str:
    while True:
        try:
            return str(client.create(image, config, name, enqueue=bool(turn))["sessionId"])
        except (Draining, Full, QuotaExceeded) as error:
            if turn is None:
                if isinstance(error, Refused):
                    raise ConfigError(str(error)) from None
                raise Unavailable(f"{error}; --wait waits for a turn") from None
            turn.waits(str(error))
            turn.pause()
        except Refused as error:
            kind = UnknownImage if _is_about_image(error) else ConfigError
            raise kind(str(error)) from None


def _is_about_image(error: Refused) -> bool:
    if isinstance(error, NotFound):
        return error.kind == "environment image"
    return isinstance(error.data, dict) and list(error.data) == ["image"]


def _await_turn(client: Client, session: str, turn: TurnWait) -> None:
    """Return when the session has begun. Raises Unavailable, and deletes the session."""
    try:
        while True:
            facts = client.call("GET", f"/session/{session}")
            if facts["status"] != "PENDING":
                return
            turn.queued(facts["sandbox"]["queue"] or {"reason": "the host is full", "position": 1})
            turn.pause()
    except BaseException:  # also when the user gives up
        client.call("DELETE", f"/session/{session}")
        raise


class TemporarySession:
    """A session that is deleted at the end of its command, unless it is preserved."""

    def __init__(self, client: Client, session: str) -> None:
        self.preserved = False
        self.client, self.session = client, session

    def preserve(self, daemon: PrivateDaemon | None) -> None:
        """Let the session outlive the command for RESULTS_S; and the state of its private `daemon`,
        if it has one. Raises OSError."""
        self.preserved = True
        with contextlib.suppress(ConnectionLost):  # a daemon that is back ends the session then
            renew(self.client, self.session, RESULTS_S)
        if daemon:
            daemon.preserve()


def renew(client: Client, session: str, ttl_s: float) -> None:
    """Give the session another time to live, which begins now."""
    client.call("POST", f"/session/{session}/renew", {"ttlSeconds": ttl_s})


@contextlib.contextmanager
def deleted(client: Client, session: str) -> Iterator[TemporarySession]:
    """Delete the session at the end of the block in any case, also after Ctrl-C. Raises Unavailable
    with the remedy when the daemon has gone and the session stays."""
    temporary = TemporarySession(client, session)
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
        f"{curl}; without either, it ends a minute later"
    )


def end_at_signals() -> None:
    """Have SIGTERM and SIGHUP unwind the stack, so that the session is deleted."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _unwind)


def _unwind(number: int, _: object) -> None:
    raise SystemExit(128 + number)
