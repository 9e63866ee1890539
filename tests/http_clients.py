"""Clients of HTTP without TLS: to read the authorities, as httpx does for each client, takes longer
than most tests."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx

from .waiting import PATIENCE_S

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""No authority is trusted."""

GUARD_S = 4 * PATIENCE_S
"""Seconds that a response may take: a request of several acts waits for each of them."""


def unix_client(path: str | Path, **options: Any) -> httpx.Client:
    """A client of the server at the Unix socket `path`."""
    options = {"timeout": GUARD_S} | options
    transport = httpx.HTTPTransport(uds=str(path), verify=NO_TLS)
    return httpx.Client(transport=transport, base_url="http://sandboxd", **options)


def network_client(base_url: str, **options: Any) -> httpx.Client:
    """A client of the server at `base_url`."""
    options = {"timeout": GUARD_S} | options
    return httpx.Client(base_url=base_url, verify=NO_TLS, **options)
