"""The listening sockets of the daemon, opened as root: those of the API, and that of the metrics.

The service manager may have opened some of them. They are held to the same rules: without
signatures, only the mode of a Unix socket or the loopback keeps strangers out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
from collections.abc import Iterator

from .. import log, systemd
from ..config.listen_address import ListenAddress, keyed_paths, parse
from ..config.settings import METRICS, Config
from ..errors import ConfigError
from .host_groups import gid_of


def check(config: Config) -> None:
    """Without keys only the mode of a Unix socket, or the loopback, keeps strangers out."""
    for address in map(parse, config.listen):
        if not address.path:
            _check_host(config, address)


def open_all(config: Config, stack: contextlib.ExitStack) -> list[socket.socket]:
    """The sockets of the service manager, and one for each other address of the configuration.

    Raises ConfigError.
    """
    addresses = [parse(text) for text in config.listen]
    passed = [stack.enter_context(sock) for sock in systemd.passed_sockets()]
    for sock in passed:
        _check_passed(config, sock)
    open_already = {address_of(sock) for sock in passed}
    others = [address for address in addresses if address.bare not in open_already]
    return passed + [stack.enter_context(_listener(address, "listen")) for address in others]


def open_monitor(config: Config, stack: contextlib.ExitStack) -> socket.socket | None:
    """The listener for metrics and health checks. Raises ConfigError.

    Only one daemon of a host can have the default address. The others log that and have none.
    """
    if not config.metrics:
        return None
    try:
        address = parse(config.metrics, "metrics")
        listener = stack.enter_context(_listener(address, "metrics"))
    except ConfigError as error:
        if config.metrics != METRICS:
            raise
        log.event("metrics.off", logging.WARNING, reason=str(error))
        return None
    log.event("metrics.on", address=address_of(listener))
    return listener


def _check_passed(config: Config, sock: socket.socket) -> None:
    """Hold a socket of the service manager to the rules for our own. Raises ConfigError."""
    address = address_of(sock)
    if sock.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6) or not sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        raise ConfigError(f"{address}, passed by the service manager, is no listening socket")
    if sock.family != socket.AF_UNIX:
        _check_host(config, parse(address))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # see _listen_tcp
        return
    path = address.removeprefix("unix:")
    if path not in keyed_paths(config.listen) and os.stat(path).st_mode & 0o006:
        raise ConfigError(
            f"{address} is open to everybody on this host, and its clients need not sign; give the "
            "socket unit SocketMode=0600, or 0660 and a SocketGroup="
        )


def address_of(listener: socket.socket) -> str:
    """The address as in --listen, with the port that the kernel chose for port 0."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _check_host(config: Config, address: ListenAddress) -> None:
    if config.auth == "none" and address.host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f'auth "none" is refused with the address {address.bare} in listen: anybody who '
            'reaches it could use it; set auth to "keypair" and create keys by "sandboxd keypair '
            'create", or listen on 127.0.0.1, ::1 or unix:PATH'
        )


@contextlib.contextmanager
def _listener(address: ListenAddress, key: str) -> Iterator[socket.socket]:
    """A listening socket; a Unix socket's file is removed at the end. `key` of the configuration
    has the address, or the option of that name."""
    if not address.path:
        yield _listen_tcp(address, key)
        return
    sock = _listen_unix(address, key)
    mine = os.stat(address.path).st_ino
    try:
        yield sock
    finally:
        with contextlib.suppress(OSError):
            if os.stat(address.path).st_ino == mine:
                os.unlink(address.path)


def _listen_tcp(address: ListenAddress, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        sock = socket.create_server((address.host, address.port), family=family, backlog=512)
        # Connections inherit it. asyncio would set it, but only where the protocol is not 0;
        # without it an answer in two writes waits 40 ms for the client's delayed ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    except OSError as error:
        raise ConfigError(f"{key}: {address.bare}: {error.strerror}") from None


def _listen_unix(address: ListenAddress, key: str) -> socket.socket:
    """A socket that only root and the configured group may open: its clients need not sign."""
    path = address.path
    gid = gid_of(address.group, f"{key}: {address.bare}") if address.group else 0
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _answers(path):
            raise ConfigError(f"{key}: unix:{path}: another sandboxd is listening there")
        if os.path.lexists(path):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise ConfigError(f"{key}: unix:{path}: a file that is no socket is there")
            os.unlink(path)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        sock.bind(path)
        os.chown(path, 0, gid)
        os.chmod(path, 0o660 if address.group else 0o600)
        sock.listen(512)
    except OSError as error:
        sock.close()
        raise ConfigError(f"{key}: unix:{path}: {error.strerror}") from None
    return sock


def _answers(path: str) -> bool:
    """A process listens on the socket `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
