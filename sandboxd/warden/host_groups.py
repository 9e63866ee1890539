"""The groups of the host that the configuration names, as gids.

They are looked up when the configuration is read: later a lookup could block, and the api may not
reach the files and services that know the names.
"""

from __future__ import annotations

import dataclasses
import grp

from ..config.settings import Config
from ..errors import ConfigError

GID_MAX = 0xFFFFFFFE


def gid_of(name: str, key: str) -> int:
    """The gid of the group `name`, or the number that it is. Raises ConfigError, with the `key` of
    the configuration."""
    if name.isascii() and name.isdecimal() and int(name) <= GID_MAX:
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise ConfigError(
            f"{key}: this host has no group {name!r}; make it with groupadd, or write the name or "
            "the number of another one"
        ) from None


def with_gids(config: Config) -> Config:
    """The configuration with gids in place of the names in `admin_groups`. Raises ConfigError."""
    gids = tuple(str(gid_of(name, "admin_groups")) for name in config.admin_groups)
    return dataclasses.replace(config, admin_groups=gids)
