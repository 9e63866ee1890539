"""The keypair of a command that speaks to an endpoint, and the signature of its requests.

The keypair is in the environment, under the names of sandboxd or of Backend.AI's clients, or in a
file: the output of `sandboxd keypair create --json`. A file that other users can read is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from ...errors import ConfigError
from ...model import API_VERSION

KEY_FILE = "SANDBOXD_KEY_FILE"
"""The variable that names a file with a keypair."""

PREFIXES = ("SANDBOXD", "BACKEND")

_NO_CONTENT = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class RequestKeys:
    """A keypair that signs requests."""

    access_key: str
    secret_key: str = field(repr=False)

    def headers(self, method: str, target: str, host: str, media: str = "") -> dict[str, str]:
        """The headers that sign a request for `target`, its path and query as sent."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        media = media.partition(";")[0].strip().lower() or "application/octet-stream"
        text = "\n".join((
            method, target, now, f"host:{host}", f"content-type:{media}",
            f"x-backendai-version:{API_VERSION}", _NO_CONTENT,
        ))  # fmt: skip
        key = self.secret_key.encode()
        for part in (now[:10].replace("-", ""), host):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        credential = f"credential={self.access_key}:{signature}"
        return {
            "Date": now,
            "X-BackendAI-Version": API_VERSION,
            "Authorization": f"BackendAI signMethod=HMAC-SHA256, {credential}",
        }


class SignedRequests(httpx.Auth):
    """Signs each request of a client, with a date of its own."""

    def __init__(self, keys: RequestKeys) -> None:
        self._keys = keys

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]  # it asks for no response
        """The request with the headers that sign it."""
        target, host = request.url.raw_path.decode("ascii"), request.headers["host"]
        media = request.headers.get("content-type", "")
        request.headers.update(self._keys.headers(request.method, target, host, media))
        yield request


def find_keys(endpoint: str, environ: Mapping[str, str] = os.environ) -> RequestKeys:
    """The keypair for `endpoint`. Raises ConfigError where there is none."""
    for prefix in PREFIXES:
        names = (f"{prefix}_ACCESS_KEY", f"{prefix}_SECRET_KEY")
        access_key, secret_key = (environ.get(name, "") for name in names)
        if access_key and secret_key:
            return RequestKeys(access_key, secret_key)
        if access_key or secret_key:
            raise ConfigError(f"set both {names[0]} and {names[1]}: one of them is missing")
    if path := environ.get(KEY_FILE):
        return _read(path)
    raise ConfigError(
        f"{endpoint} needs a keypair: set SANDBOXD_ACCESS_KEY and SANDBOXD_SECRET_KEY (or those of "
        f"BACKEND_), or {KEY_FILE} to a file with the output of 'sandboxd keypair create --json'"
    )


def _read(path: str) -> RequestKeys:
    """The keypair of a file that no other user can read. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            _expect_closed(path, os.fstat(file.fileno()))
            content = json.load(file)
        return RequestKeys(str(content["access_key"]), str(content["secret_key"]))
    except OSError as error:
        raise ConfigError(f"{KEY_FILE}={path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{KEY_FILE}={path}: is no keypair; write the output of 'sandboxd keypair create "
            "--json' there"
        ) from None


def _expect_closed(path: str, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise ConfigError(
            f"{KEY_FILE}={path}: other users can use the keypair (mode {mode:o}); chmod 600 {path}"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{KEY_FILE}={path}: the file belongs to another user (uid {status.st_uid}); make a "
            "copy that is yours"
        )
