"""The address of the daemon that a command speaks to: a Unix socket of this host, or an endpoint.

An endpoint is the URL of a daemon on a network. Requests to it are signed (request_keys.py). The
certificate of an https endpoint must verify, by the authorities that this host trusts.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any

import httpx

from ...errors import ConfigError, Refused
from .request_keys import SignedRequests, find_keys

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

ENDPOINT = "SANDBOXD_ENDPOINT"
"""The variable that names the endpoint for commands without --socket."""

_SCHEMES = ("http", "https")


def is_endpoint(address: str) -> bool:
    """The address is a URL, and no path of a socket."""
    return "://" in address


def default_endpoint() -> str | None:
    """The endpoint that the environment names."""
    return os.environ.get(ENDPOINT) or None


def http_client(address: str, **options: Any) -> httpx.Client:
    """A client of HTTP for the daemon at `address`. Raises ConfigError."""
    if not is_endpoint(address):
        # Without the authorities, whose reading takes longer than a short run.
        transport = httpx.HTTPTransport(uds=address, verify=False, trust_env=False)
        return httpx.Client(
            transport=transport, base_url="http://sandboxd", trust_env=False, **options
        )
    url = _checked(address)
    return httpx.Client(
        base_url=url, auth=SignedRequests(find_keys(address)), verify=_trust(url),
        event_hooks={"response": [_refuse_redirect]}, **options,
    )  # fmt: skip


def _checked(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{address}: {error}") from None
    if url.scheme not in _SCHEMES or not url.host or url.userinfo:
        raise ConfigError(f"{address} is no endpoint; write https://HOST or http://HOST:PORT")
    if url.raw_path != b"/":  # it is signed, and a proxy would have to change it
        raise ConfigError(f"{address}: an endpoint has no path; leave out all behind the host")
    return url


def _trust(url: httpx.URL) -> ssl.SSLContext | bool:
    """The authorities of this host, and SSL_CERT_FILE; their list takes a moment to read."""
    return ssl.create_default_context() if url.scheme == "https" else False


def _refuse_redirect(response: httpx.Response) -> None:
    if response.is_redirect:
        to = response.headers.get("location", "")
        raise Refused(f"the endpoint redirects to {to[:200]!r}; name the endpoint there")


def expect_answer(address: str) -> None:
    """Raise ConfigError, with the remedy, where no daemon answers at the endpoint `address`."""
    with http_client(address, timeout=30.0) as client:
        try:
            client.get("/")
        except httpx.HTTPError as error:
            raise ConfigError(f"{address}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate does not verify: {cause.verify_message}; name the certificate of "
                "its authority with SSL_CERT_FILE=FILE, or the host as the certificate has it"
            )
        cause = cause.__cause__ or cause.__context__
    return f"no daemon answers ({error}); name the URL of a running daemon"


def websocket(address: str, path: str, **options: Any) -> ClientConnection:
    """An open WebSocket to the daemon at `address`. Raises what the library raises, and
    ConfigError."""
    from websockets.sync.client import connect, unix_connect  # it takes a moment

    connection: ClientConnection
    if not is_endpoint(address):
        connection = unix_connect(address, f"ws://sandboxd{path}", **options)
        return connection
    url = _checked(address)
    host = url.netloc.decode("ascii")
    options["additional_headers"] = find_keys(address).headers("GET", path, host)
    if url.scheme == "https":
        options["ssl"] = ssl.create_default_context()
    scheme = "wss" if url.scheme == "https" else "ws"
    connection = connect(f"{scheme}://{host}{path}", **options)
    return connection
