"""The addresses in `listen`: HOST:PORT, or unix:PATH with options.

    unix:PATH                   the kernel names the caller, who signs nothing
    unix:PATH?auth=keypair      requests are signed, as over TCP: a socket for proxies
    unix:PATH?group=NAME        the group may open the socket; without it, root alone may

Options are joined by `&`. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ConfigError

PORT_MAX = 65535
PATH_MAX = 107

_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """One address.

    path   of a Unix socket; "": it is host and port
    keyed  requests on the Unix socket are signed
    group  name or gid of the group that may open the Unix socket; "": none
    """

    path: str = ""
    host: str = ""
    port: int = 0
    keyed: bool = False
    group: str = ""

    @property
    def bare(self) -> str:
        """The address without options, as the socket itself has it."""
        if self.path:
            return _UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str, key: str = "listen") -> ListenAddress:
    """The address `text` of the configuration's `key`. Raises ConfigError."""
    if not text.startswith(_UNIX):
        return _host_port(text, key)
    path, mark, options = text.removeprefix(_UNIX).partition("?")
    if not path.startswith("/") or len(path.encode("utf-8", "surrogateescape")) > PATH_MAX:
        raise ConfigError(f"{key}: {text}: an absolute path of at most {PATH_MAX} bytes is needed")
    keyed, group = False, ""
    for option in options.split("&") if mark else ():
        name, _, value = option.partition("=")
        if option == "auth=keypair":
            keyed = True
        elif name == "group" and value:
            group = value
        else:
            raise ConfigError(
                f"{key}: {text}: {option!r} is no option; write auth=keypair, group=NAME, or both "
                "with & between them"
            )
    return ListenAddress(path, keyed=keyed, group=group)


def _host_port(text: str, key: str) -> ListenAddress:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{key}: {text!r} is no address; write HOST:PORT or unix:PATH")
    if int(port) > PORT_MAX:
        raise ConfigError(f"{key}: {text!r}: a port is a number from 0 to {PORT_MAX}")
    return ListenAddress(host=host.strip("[]"), port=int(port))


def keyed_paths(listen: Iterable[str]) -> frozenset[str]:
    """The paths of the Unix sockets on which requests are signed. Raises ConfigError."""
    addresses = [parse(text) for text in listen]
    return frozenset(address.path for address in addresses if address.keyed)
