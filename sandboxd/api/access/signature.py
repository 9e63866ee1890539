"""Signed requests: what a client claims, and whether its signature bears that out. No I/O.

The string to sign is seven lines, made of the request as it came over the wire, byte for byte:

    METHOD
    path and query, percent-encoded as sent
    the date header's value: Date, else X-BackendAI-Date, else X-Sorna-Date
    host:VALUE                     with the port
    content-type:TYPE              without parameters, lower-case
    x-backendai-version:VALUE      or x-sorna-version
    hash of nothing                bodies are not signed

The key is derived from the secret by the day of that date, then by the host, so a signature is
good for one host and, within SKEW, one time. What is not signed, a body above all, is as
trustworthy as the way it came: over a network, that is TLS in front of us.

Messages, titles and their order are those of the Backend.AI manager, as its clients show them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from ...errors import AuthFailed, AuthInvalid

SKEW = timedelta(minutes=15)
"""How far a client's clock may be from ours, either way."""

HASHES = frozenset(
    ("sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s")
)
"""Those of hashlib.algorithms_guaranteed with a fixed digest of at least 256 bits."""

_SCHEMES = ("BackendAI", "Sorna")
_DATES = (b"date", b"x-backendai-date", b"x-sorna-date")
_VERSIONS = (b"x-backendai-version", b"x-sorna-version")
_NO_TYPE = b"application/octet-stream"  # what a server takes an absent Content-Type for

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case, in the order of the request."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a request says it is from. Nothing of it is true before `verify` has said so.

    when       its date, in the zone that it was written in
    signature  hexadecimal, as sent
    rest       the string to sign but for its first and last line
    """

    access_key: str
    hash: str
    signature: bytes
    when: datetime
    host: bytes
    rest: bytes


def claim(target: bytes, headers: Headers, now: datetime) -> Claim:
    """What the request for `target` (path and query as sent) claims at the time `now`.

    Raises AuthFailed when it is not signed, AuthInvalid when its signature cannot be checked.
    """
    found = _first(headers)
    authorization = found.get(b"authorization")
    raw_date = next((found[name] for name in _DATES if found.get(name)), None)
    if not authorization and raw_date is None:  # it claims nothing, so nothing of it is invalid
        raise AuthFailed("Unauthorized access")
    when = _date(raw_date, now)
    if not authorization:
        raise AuthFailed("Unauthorized access")
    access_key, hash, signature = _credential(authorization.decode("latin-1"))
    version = next((name for name in _VERSIONS if name in found), None)
    if version is None:
        raise AuthInvalid("API version missing in request headers")
    host = found.get(b"host", b"")
    rest = (
        target,
        raw_date or b"",
        b"host:" + host,
        b"content-type:" + _media_type(found.get(b"content-type")),
        version + b":" + found[version],
    )
    return Claim(access_key, hash, signature.encode("latin-1"), when, host, b"\n".join(rest))


def verify(claimed: Claim, method: str, secret: str) -> bool:
    """The holder of `secret` has signed the claim as a `method` request."""
    return hmac.compare_digest(sign(claimed, method, secret), claimed.signature)


def sign(claimed: Claim, method: str, secret: str) -> bytes:
    """The signature that a `method` request of this claim must have, in lower-case hexadecimal."""
    nothing = hashlib.new(claimed.hash).hexdigest().encode()
    text = b"\n".join((method.upper().encode(), claimed.rest, nothing))
    # the day of the date as written: a client signs in its own zone
    day = hmac.digest(secret.encode(), f"{claimed.when:%Y%m%d}".encode(), claimed.hash)
    key = hmac.digest(day, claimed.host, claimed.hash)
    return hmac.digest(key, text, claimed.hash).hex().encode()


def _first(headers: Headers) -> Mapping[bytes, bytes]:
    """The first value of each header, as our handlers read them too."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found.setdefault(name, value)
    return found


def _media_type(value: bytes | None) -> bytes:
    return _NO_TYPE if value is None else value.partition(b";")[0].strip().lower()


def _date(raw: bytes | None, now: datetime) -> datetime:
    """The time that a date header names. Raises AuthInvalid when it is none, or not about now."""
    when = parse_date(raw.decode("latin-1")) if raw else None
    if when is None or abs(when - now) > SKEW:
        raise AuthInvalid("Date/time sync error")
    return when


def parse_date(text: str) -> datetime | None:
    """A date in ISO 8601 or as RFC 7231 has it, UTC if it names no zone; None if it is neither."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            when = parse(text.strip())
        except (ValueError, TypeError, OverflowError, IndexError):  # email.utils raises them all
            continue
        return when if when.tzinfo else when.replace(tzinfo=UTC)
    return None


def _credential(value: str) -> tuple[str, str, str]:
    """Access key, hash and signature in an Authorization header. Raises AuthInvalid."""
    scheme, _, text = value.partition(" ")
    if not text:
        raise AuthInvalid("Malformed authorization header")
    if scheme not in _SCHEMES:
        raise AuthInvalid("Invalid authorization type name")
    pairs = (part.partition("=") for part in text.split(","))
    given = {key.strip(): value.strip() for key, _, value in pairs}
    access_key, colon, signature = given.get("credential", "").partition(":")
    method = given.get("signMethod", "")
    if not (access_key and colon and method):
        raise AuthInvalid("Missing or malformed authorization parameters")
    kind, _, hash = method.lower().partition("-")
    if kind != "hmac" or hash not in HASHES:
        names = ", ".join(f"HMAC-{name.upper()}" for name in sorted(HASHES))
        raise AuthInvalid(f"Unsupported signMethod; known are {names}")
    return access_key, hash, signature
