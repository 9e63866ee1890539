"""Keeps web pages out where nobody signs (auth = "none").

Whoever reaches such a listener is trusted, since only this machine can. But a browser on this
machine carries requests of any page that is open in it: directly (the page sends what needs no
leave: a POST with a text body, a WebSocket), or under a name of the page's own server that was
turned to 127.0.0.1 meanwhile (DNS rebinding), and then the page even reads the answers.

A browser cannot be made to lie in three headers (Fetch, "forbidden request-header"): Host names
the server as the page knows it, Origin the page, Sec-Fetch-Site how the two are related. So the
Host has to be the loopback, and the page, if there is one, the daemon's own. Programs send no
Origin; without a Host it was no browser either. No I/O.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from ...errors import Forbidden

_OWN_PAGE = ("same-origin", "none")  # none: the user's own act, such as a typed address


def refuse_pages(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Forbidden for a request that a page of somebody else's may have sent.

    Names in `headers` are lower-case, as ASGI has them.
    """
    found: dict[bytes, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value.decode("latin-1").strip().lower())
    hosts = found.get(b"host", [])
    for host in hosts:
        if not is_loopback(host):
            raise Forbidden(
                f"without keys this server answers to the Host localhost, 127.0.0.1 or [::1], "
                f"not {host[:80]!r}; make a keypair, or use its loopback address"
            )
    for origin in found.get(b"origin", []):
        if origin.removeprefix("http://") not in hosts:
            raise Forbidden(f"without keys this server does nothing for the page {origin[:80]!r}")
    for site in found.get(b"sec-fetch-site", []):
        if site not in _OWN_PAGE:
            raise Forbidden("without keys this server does nothing for pages of other sites")


def is_loopback(host: str) -> bool:
    """`host`, a Host header in lower case, is a name of this machine that no DNS can give away.

    localhost and what is below it is the loopback by RFC 6761, 6.3; browsers keep to that.
    """
    name, port = _split(host)
    if port and not (port.isascii() and port.isdigit()):
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _split(host: str) -> tuple[str, str]:
    """Name or address without brackets, and port, "" when there is none."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return (name, rest.removeprefix(":")) if ":" in name else ("", "")
    name, _, port = host.partition(":")
    return name, port
