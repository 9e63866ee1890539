"""The rows of `sandboxd doctor` on the listeners: which users reach each, and as which callers."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..config.listen_address import ListenAddress, parse
from ..config.settings import Config
from ..errors import ConfigError
from ..model import Guarantee
from ..warden.host_groups import gid_of

_GROUP = "callers"


def rows(config: Config) -> Iterator[Guarantee]:
    """A row for each address of `listen`, and one for the groups of admins. Raises ConfigError for
    text that is no address."""
    for text in config.listen:
        address = parse(text)
        if address.path:
            yield _unix(address)
        else:
            yield _network(address, config.auth == "none")
    yield _admins(config.admin_groups)


def _unix(address: ListenAddress) -> Guarantee:
    if address.keyed:
        return _row(address.bare, "requests are signed with keypairs")
    owners = "each user owns its sessions (uid:N)"
    if not (group := address.group or _group_of(address.path)):
        return _row(address.bare, f"open to root; {owners}")
    try:
        gid_of(group, "listen")
    except ConfigError as error:
        return _row(address.bare, str(error), "name a group of this host")
    return _row(address.bare, f"open to root and the group {group}; {owners}")


def _group_of(path: str) -> str:
    """The gid of the group that may open a socket of the service manager; "": none may."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return str(status.st_gid) if status.st_mode & 0o020 and status.st_gid else ""


def _network(address: ListenAddress, is_open: bool) -> Guarantee:
    if not is_open:
        return _row(address.bare, "requests are signed with keypairs")
    return _row(
        address.bare,
        'auth = "none": every user and program of this host reaches it, and acts as root',
        'listen on unix:PATH?group=NAME instead, or set auth = "keypair"',
    )


def _admins(groups: tuple[str, ...]) -> Guarantee:
    try:
        for name in groups:
            gid_of(name, "admin_groups")
    except ConfigError as error:
        return _row("admins", str(error), "name groups of this host")
    more = f", and the groups {', '.join(groups)}" if groups else ""
    return _row("admins", f"root{more}, and keypairs made with --admin")


def _row(name: str, detail: str, remedy: str = "") -> Guarantee:
    """A row; with a `remedy` it is one that does not hold, and the daemon starts nevertheless."""
    return Guarantee(_GROUP, name, "", not remedy, False, detail, remedy)
