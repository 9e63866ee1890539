"""The refusal of web pages where requests are unsigned (auth = "none").

Only programs on this host reach such a listener, and they are trusted. But a browser on this host
sends requests for every page that is open in it. A page may send some requests to any server: a
POST with a text body, or a WebSocket. And it may send all requests to its own server, whose name
the attacker can point at 127.0.0.1 later (DNS rebinding); then the page even reads the responses.

A page cannot choose three headers (Fetch, "forbidden request-header"). Host names the server as
the page knows it, Origin names the page, and Sec-Fetch-Site says how the two are related. So Host
has to be the loopback, and the page, if there is one, the daemon's own. Programs send no Origin; a
request without Host comes from no browser. No I/O.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from ...errors import Forbidden

_OWN_PAGE = ("same-origin", "none")  # none: the user's own act, such as a typed address


def refuse_pages(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Forbidden for a request that a foreign web page may have sent.

    Names in `headers` are lower-case, as ASGI has them.
    """
    values: dict[bytes, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value.decode("latin-1").strip().lower())
    hosts = values.get(b"host", [])
    for host in hosts:
        if not is_loopback(host):
            raise Forbidden(
                f"with auth none this server serves the Host localhost, 127.0.0.1 or [::1], "
                f"not {host[:80]!r}; use a loopback address, or make a keypair"
            )
    for origin in values.get(b"origin", []):
        if origin.removeprefix("http://") not in hosts:
            raise Forbidden(f"with auth none this server does not serve the page {origin[:80]!r}")
    for site in values.get(b"sec-fetch-site", []):
        if site not in _OWN_PAGE:
            raise Forbidden("with auth none this server does not serve pages of other sites")


def is_loopback(host: str) -> bool:
    """`host`, a Host header in lower case, always means this host, for any answer of the DNS.

    localhost and the names below it are the loopback by RFC 6761, 6.3; browsers comply.
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
