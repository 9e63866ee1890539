"""The rules for hosts of the network: names, addresses, ports and patterns. No I/O.

A host is a name or an address. A name is compared in one form: small letters, ASCII, no dot at its
end. A name with other letters has an ASCII form (xn--...), which is the only one that counts here.
An address has one form, too: four decimal numbers, or IPv6 as RFC 5952 writes it. Resolvers read
many other texts as addresses (0x7f.1, 127.1, 2130706433, 0177.0.0.1). All of them are refused, so
no number can pass for a name.

A pattern is HOST:PORT or *.NAME:PORT. The star is exactly one label, as in certificates:
*.files.example covers a.files.example, and neither files.example nor a.b.files.example.

`is_public` says which addresses the broker may connect to without a pattern that has the address.
The networks are listed here, since the lists of `ipaddress` differ between versions of Python.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NAME_MAX = 253
"""Characters of a name (RFC 1035)."""

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
"""A last label that makes resolvers read the whole text as an address."""
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_PORT_MAX = 65535

_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",
    )
)  # fmt: skip
"""RFC 6890 and its updates; the last one is a metadata service with a public address."""

_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
"""Teredo and other protocols, documentation, 6to4: parts of 2000::/3."""


def parse_host(text: str) -> str:
    """The one form of a name or an address (IPv6 in brackets, or without). Raises Invalid."""
    if text.startswith("["):
        if not text.endswith("]"):
            raise Invalid(f"{_shown(text)} is no host: a bracket is missing")
        return _parse_v6(text[1:-1])
    if ":" in text:
        return _parse_v6(text)
    name = text.lower()
    name = name.removesuffix(".")
    labels = name.split(".")
    if not text.isascii():
        raise Invalid(f"{_shown(text)} is no host: write the name in its ASCII form, xn--...")
    if len(name) > NAME_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise Invalid(f"{_shown(text)} is no host")
    if _NUMBER.fullmatch(labels[-1]):
        return _parse_v4(text)
    return name


def _parse_v4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise Invalid(f"{_shown(text)} is no host: an address has four decimal numbers") from None


def _parse_v6(text: str) -> str:
    try:
        if "%" in text:  # a zone names an interface of this host
            raise ValueError
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise Invalid(f"{_shown(text)} is no host") from None


def address_of(host: str) -> Address | None:
    """The address that a host in its one form is; None: it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _shown(text: str) -> str:
    return ascii(text[:100])


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host in its one form, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_target(text: str, default_port: int | None = None) -> HostPort:
    """HOST:PORT; without a port the `default_port`, if there is one. Raises Invalid."""
    if text.endswith("]"):
        host, colon, port = text, "", ""
    else:
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = text, ""
    if host.count(":") and not host.startswith("["):
        raise Invalid(f"{_shown(text)}: an IPv6 address needs brackets")
    if not colon and default_port is not None:
        return HostPort(parse_host(host), default_port)
    if not _PORT.fullmatch(port) or int(port) > _PORT_MAX:
        raise Invalid(f"{_shown(text)} has no port: HOST:PORT is expected")
    return HostPort(parse_host(host), int(port))


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A target, or with `wildcard` the names one label below its host."""

    target: HostPort
    wildcard: bool = False

    def __str__(self) -> str:
        return f"*.{self.target}" if self.wildcard else str(self.target)

    def covers(self, target: HostPort) -> bool:
        """The pattern allows the target."""
        if target.port != self.target.port:
            return False
        if not self.wildcard:
            return target.host == self.target.host
        label, dot, above = target.host.partition(".")
        return bool(label and dot) and above == self.target.host and not address_of(target.host)

    def includes(self, narrower: HostPattern) -> bool:
        """Whatever `narrower` covers, this pattern covers too."""
        return self == narrower or (not narrower.wildcard and self.covers(narrower.target))


def parse_pattern(text: str) -> HostPattern:
    """HOST:PORT or *.NAME:PORT. Raises Invalid."""
    if not text.startswith("*."):
        return HostPattern(parse_target(text))
    target = parse_target(text[2:])
    if address_of(target.host) or "." not in target.host:
        raise Invalid(f"{_shown(text)}: a star needs a name of two labels at least behind it")
    return HostPattern(target, wildcard=True)


def covered(target: HostPort, patterns: Iterable[HostPattern]) -> bool:
    """One of the patterns allows the target."""
    return any(pattern.covers(target) for pattern in patterns)


def translated(address: Address) -> ipaddress.IPv4Address | None:
    """The address that a translator (NAT64, RFC 6052) makes of one with the well-known prefix."""
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def is_public(address: Address) -> bool:
    """The address is one of the public network: not of this host, its networks, a multicast group,
    a metadata service, or a form of IPv6 that means another address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    if address.scope_id is not None:
        return False
    if (inner := translated(address)) is not None:
        return is_public(inner)
    return address in _PUBLIC_V6 and not any(address in network for network in _REFUSED_V6)
