"""The profiles of the network in the configuration, [network.profiles.NAME]. No I/O.

Without a profile no run has a way out. A profile names the hosts that the runs of a session may
reach through the broker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import ConfigError, Invalid
from ..model import GIB, NetworkGrant
from ..network_hosts import HostPattern, parse_pattern

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9_-]{1,64}|uid:(?:0|[1-9][0-9]{0,9})", re.ASCII)
_FRAMING = ("host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "te")
"""Headers that a secret cannot have: they belong to the broker."""

PROFILES_MAX = 64
HOSTS_MAX = 256


@dataclass(frozen=True, slots=True)
class SecretConfig:
    """[network.profiles.NAME.secrets.ID]: a header that the broker adds to requests, and that the
    run never sees. The run speaks plain HTTP to the host, and the broker TLS.

    host    HOST:PORT, which the profile allows
    path    the beginning of the paths for which the header is added; it ends with /
    header  the name of the header
    file    the file with its value, which root alone may read
    """

    host: str = ""
    path: str = ""
    header: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class OwnerNetworkConfig:
    """The same bounds for all sessions of one owner together."""

    connections: int = 256
    bytes: int = 100 * GIB
    rate: int = 4 * GIB


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """[network.profiles.NAME]: the hosts that a session may reach, and the bounds of one session.

    hosts        HOST:PORT, or *.NAME:PORT for the names one label below NAME
    owners       the owners that may have the profile, access keys or uid:N; none: all may
    connections  open connections; further ones wait for connect_s and are refused then
    bytes        bytes in both directions in a day
    rate         bytes a second in both directions
    connect_s    seconds for a place, and for the name and the connection
    idle_s       seconds without a byte after which a connection is closed
    """

    hosts: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    connections: int = 64
    bytes: int = 20 * GIB
    rate: int = 2 * GIB
    connect_s: float = 15
    idle_s: float = 300
    owner: OwnerNetworkConfig = OwnerNetworkConfig()
    secrets: dict[str, SecretConfig] = field(default_factory=dict)

    @property
    def patterns(self) -> tuple[HostPattern, ...]:
        """The hosts as patterns."""
        return tuple(map(parse_pattern, self.hosts))


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """[network]: the profiles by name."""

    profiles: dict[str, ProfileConfig] = field(default_factory=dict)

    def refusal(self, grant: NetworkGrant) -> str:
        """The reason why a session may not have `grant`; "": it may."""
        profile = self.profiles.get(grant.profile)
        if profile is None:
            return f"this server has no network profile {grant.profile!r}"
        if profile.owners and grant.owner not in profile.owners:
            return f"the network profile {grant.profile} is not for this owner"
        if len(grant.hosts) > HOSTS_MAX:
            return f"a session can name {HOSTS_MAX} hosts at most"
        for text in grant.hosts:
            try:
                narrower = parse_pattern(text)
            except Invalid as error:
                return error.public
            if not any(pattern.includes(narrower) for pattern in profile.patterns):
                return f"{narrower} is not in the network profile {grant.profile}"
        return ""


def check(network: NetworkConfig) -> None:
    """Raise ConfigError for the first profile that cannot be meant."""
    if len(network.profiles) > PROFILES_MAX:
        raise ConfigError(f"network.profiles has more than {PROFILES_MAX} profiles")
    for name, profile in network.profiles.items():
        where = f"network.profiles.{name}"
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{where}: a name has 1 to 32 small letters, digits, - and _")
        for key, problem in _problems(profile):
            raise ConfigError(f"{where}.{key}: {problem}")


def _problems(profile: ProfileConfig) -> Iterator[tuple[str, str]]:
    """Each key with a wrong value, and the reason."""
    if not 0 < len(profile.hosts) <= HOSTS_MAX:
        yield "hosts", f"1 to {HOSTS_MAX} hosts are expected"
    try:
        patterns = profile.patterns
    except Invalid as error:
        yield "hosts", error.public
        return
    for owner in profile.owners:
        if not _OWNER.fullmatch(owner):
            rule = "an access key (letters, digits, - and _) or uid:N is expected"
            yield "owners", f"{owner!r} is no owner: {rule}"
    for key in ("connections", "bytes", "rate", "connect_s", "idle_s"):
        if getattr(profile, key) <= 0:
            yield key, "a number above 0 is expected"
    for key in ("connections", "bytes", "rate"):
        if getattr(profile.owner, key) <= 0:
            yield f"owner.{key}", "a number above 0 is expected"
    for id, secret in profile.secrets.items():
        for key, problem in _problems_of_secret(secret, patterns):
            yield f"secrets.{id}.{key}", problem


def _problems_of_secret(
    secret: SecretConfig, patterns: tuple[HostPattern, ...]
) -> Iterator[tuple[str, str]]:
    try:
        host = parse_pattern(secret.host)
        if host.wildcard or not any(pattern.covers(host.target) for pattern in patterns):
            yield "host", f"{secret.host} is not one of the hosts of the profile"
    except Invalid as error:
        yield "host", error.public
    if not _PATH.fullmatch(secret.path) or not secret.path.endswith("/"):
        yield "path", "a path without % and ? that begins and ends with / is expected"
    elif {".", ".."} & set(secret.path.split("/")) or "//" in secret.path:
        yield "path", "a path without //, . and .. is expected"
    if not _HEADER.fullmatch(secret.header) or secret.header.lower() in _FRAMING:
        yield "header", "the name of a header is expected, and not one that frames a request"
    if not secret.file.startswith("/"):
        yield "file", "an absolute path is expected"
