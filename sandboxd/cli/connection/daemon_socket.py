"""The socket of the daemon: the one that the user names with --socket or in the environment, else
the default one; or an endpoint on a network, which the user names in place of a socket.

A daemon that the user has named must answer. Without a name, a command may go on without a daemon,
but not when there is one that it may not reach: the user would work beside it without a word.
"""

from __future__ import annotations

import errno
import os
import socket

from ...config.settings import SOCKET
from ...errors import ConfigError, Unavailable
from .client import Client
from .endpoint import default_endpoint, expect_answer, is_endpoint

VARIABLE = "SANDBOXD_SOCKET"
"""The variable that names the socket for commands without --socket."""

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED)
"""Errors of connect(2) where no daemon listens."""


def find_daemon(named: str | None) -> Client | None:
    """A client of the daemon; None: no daemon listens at the default socket.

    Raises ConfigError when no daemon listens at the socket that the user has `named`, or when this
    user may not open the socket.
    """
    named = _named(named)
    if endpoint := _endpoint(named):
        expect_answer(endpoint)
        return Client(endpoint)
    path = named or SOCKET
    error = _connect(path)
    if error is None:
        return Client(path)
    if named is None and error.errno in _ABSENT:
        return None
    raise ConfigError(
        f"--socket {path}: no daemon listens there ({error.strerror or error}); name the socket of "
        "a running daemon, or start one with 'sandboxd serve --listen unix:PATH'"
    )


def running_daemon(named: str | None) -> Client:
    """A client of the daemon, for a command that is about a running one.

    Raises Unavailable when no daemon listens, ConfigError when this user may not open the socket.
    """
    named = _named(named)
    if endpoint := _endpoint(named):
        expect_answer(endpoint)
        return Client(endpoint)
    path = named or SOCKET
    if error := _connect(path):
        raise Unavailable(
            f"the daemon does not answer at {path} ({error.strerror or error}); start one with "
            "'sandboxd serve', or name its socket with --socket"
        )
    return Client(path)


def _named(named: str | None) -> str | None:
    """The socket or endpoint that the user has named, with --socket or else in the environment."""
    return named if named is not None else os.environ.get(VARIABLE) or None


def _endpoint(named: str | None) -> str | None:
    """The endpoint that the user has named, by --socket or else in the environment."""
    if named is None:
        return default_endpoint()
    return named if is_endpoint(named) else None


def _connect(path: str) -> OSError | None:
    """The error of a connection to `path`; None: somebody listens. Raises ConfigError when this
    user may not open the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except PermissionError:
            raise ConfigError(
                f"{path}: this user may not open the daemon's socket; it needs root: use sudo, or "
                "become a member of the socket's group"
            ) from None
        except OSError as error:
            return error
    return None
