"""The network of a session: the request of a client as a grant, and a grant for clients."""

from __future__ import annotations

from typing import Any, TypedDict

from ...config.network_profiles import HOSTS_MAX, NetworkConfig
from ...errors import Forbidden, Invalid
from ...model import NetworkGrant
from ...network_hosts import parse_pattern


class SessionNetwork(TypedDict):
    """The hosts that the runs of a session may reach, HOST:PORT each, and their profile."""

    profile: str
    hosts: list[str]


def granted(value: str | dict[str, Any], owner: str, config: NetworkConfig) -> NetworkGrant | None:
    """The grant for a request: the name of a profile, or {"profile": NAME, "hosts": [...]} for some
    of its hosts; an empty value: none. Raises Invalid, Forbidden."""
    if not value:
        return None
    profile, hosts = (value, []) if isinstance(value, str) else _narrowed(value)
    try:
        grant = NetworkGrant(owner, profile, tuple(str(parse_pattern(host)) for host in hosts))
    except Invalid as error:
        raise _invalid(error.public) from None
    if profile in config.profiles and config.refusal(NetworkGrant(owner, profile)):
        raise Forbidden(config.refusal(grant))
    if refusal := config.refusal(grant):
        raise _invalid(refusal)
    return grant


def _narrowed(value: dict[str, Any]) -> tuple[str, list[str]]:
    profile, hosts = value.get("profile"), value.get("hosts")
    if set(value) != {"profile", "hosts"} or not isinstance(profile, str):
        raise _invalid("the name of a profile, or an object with profile and hosts, is expected")
    if not isinstance(hosts, list) or not hosts or not all(isinstance(one, str) for one in hosts):
        raise _invalid("hosts must be a list of texts, HOST:PORT each")
    if len(hosts) > HOSTS_MAX:  # before each is looked at
        raise _invalid(f"a session can name {HOSTS_MAX} hosts at most")
    return profile, hosts


def _invalid(reason: str) -> Invalid:
    return Invalid.of({"config.network": reason})


def described(grant: NetworkGrant | None, config: NetworkConfig) -> SessionNetwork | None:
    """The grant as clients read it, with all hosts that it has at this moment."""
    if grant is None:
        return None
    profile = config.profiles.get(grant.profile)
    if config.refusal(grant) or profile is None:
        return {"profile": grant.profile, "hosts": []}
    patterns = map(str, profile.patterns)
    return {"profile": grant.profile, "hosts": list(grant.hosts or patterns)}
