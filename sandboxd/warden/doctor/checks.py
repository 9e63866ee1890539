"""The checks before the daemon starts; each failure is one line with its remedy."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from ...config.settings import Config, SlotsConfig
from ...errors import ConfigError
from ..code_view import closed_imports, first_closed

USER = "sandboxd"


def api_uid(config: Config) -> int:
    """The api's uid: user `sandboxd`, or, until an installation made it, one below the slots."""
    try:
        return pwd.getpwnam(USER).pw_uid
    except KeyError:
        return config.slots.first_uid - 1


def broker_uid(config: Config) -> int:
    """The uid of the broker, which has no account: two below the slots."""
    return config.slots.first_uid - 2


def check(config: Config, uid: int) -> None:
    """Raise ConfigError for the first thing that does not hold."""
    if os.geteuid() != 0:
        raise ConfigError("sandboxd needs root to make namespaces and uids; run it with sudo")
    uids_free(config.slots, broker_uid(config) if config.network.profiles else None)
    readable(uid)


def uids_free(slots: SlotsConfig, broker: int | None = None) -> None:
    """No account and no subordinate range (subuid(5)) claims a uid of the slots, or that of the
    `broker`."""
    first, last = slots.first_uid, slots.first_uid + slots.count - 1
    first = first if broker is None else broker
    remedy = "choose another slots.first_uid in the configuration"
    for entry in pwd.getpwall():
        if first <= entry.pw_uid <= last:
            raise ConfigError(
                f"uid {entry.pw_uid} of the slots is that of the account {entry.pw_name!r} of this "
                f"host; {remedy}"
            )
    for path in ("/etc/subuid", "/etc/subgid"):
        try:
            lines = Path(path).read_text().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            start, _, count = rest.partition(":")
            if not (start.isdigit() and count.isdigit()):
                continue
            if int(start) <= last and first < int(start) + int(count):
                claimed = f"overlap those of {name} in {path}"
                raise ConfigError(f"uids {first} to {last} of the slots {claimed}; {remedy}")


def readable(uid: int) -> None:
    """The unprivileged api can read the interpreter and its library, and our own code.

    The trap: a Python below /root, as version managers install it. Where sandboxd itself lies
    does not matter, see code_view.py; but its files must be readable in themselves.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for path in (*closed_imports(uid), package, os.path.abspath(__file__)):
        wanted = 0o5 if os.path.isdir(path) else 0o4
        if os.stat(path).st_mode & wanted != wanted:
            raise ConfigError(f"{path} is closed to the unprivileged api; chmod -R go+rX {path}")
    for what, path in (("interpreter", sys.executable), ("library", os.__file__)):
        if closed := first_closed(path, uid):
            raise ConfigError(
                f"Python's {what} ({os.path.realpath(path)}) cannot be read by the unprivileged "
                f"api, since {closed} is closed to it; use the system's python3, /usr/bin/python3"
            )
