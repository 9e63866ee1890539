"""The signature of requests as a client makes it: from the protocol, not from our own code."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx

VERSION = "v7.20230615"


def signature(
    secret: str, method: str, target: str, date: str, day: str, host: str, kind: str,
    version: str = f"x-backendai-version:{VERSION}", hash: str = "sha256",
) -> str:  # fmt: skip
    """The hexadecimal signature of these parts."""
    nothing = hashlib.new(hash, b"").hexdigest()
    lines = [method, target, date, f"host:{host}", f"content-type:{kind}", version, nothing]
    key = hmac.new(secret.encode(), day.encode(), hash).digest()
    key = hmac.new(key, host.encode(), hash).digest()
    return hmac.new(key, "\n".join(lines).encode(), hash).hexdigest()


class Signed(httpx.Auth):
    """Signs every request that a client of httpx sends, each with a date of its own.

    date  an ISO 8601 date to use instead
    """

    def __init__(self, access_key: str, secret_key: str, date: str = "") -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self.date = date

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]  # it asks for no answer
        """The request with its three headers."""
        date = self.date or datetime.now(UTC).isoformat()
        kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0]
        digest = signature(
            self.secret_key, request.method, request.url.raw_path.decode(), date,
            date[:10].replace("-", ""), request.headers["host"], kind,
        )  # fmt: skip
        request.headers["Date"] = date
        request.headers["X-BackendAI-Version"] = VERSION
        credential = f"{self.access_key}:{digest}"
        request.headers["Authorization"] = (
            f"BackendAI signMethod=HMAC-SHA256, credential={credential}"
        )
        yield request
