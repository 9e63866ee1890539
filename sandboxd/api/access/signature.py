"""The signature of a request: the claim of a client, and its verification. No I/O.

The string to sign has seven lines, from the request as it came over the wire, byte for byte:

    METHOD
    path and query, percent-encoded as sent
    the date header's value: Date, else X-BackendAI-Date, else X-Sorna-Date
    host:VALUE                     with the port
    content-type:TYPE              without parameters, lower-case
    x-backendai-version:VALUE      or x-sorna-version
    hash of nothing                bodies are not signed

The key is derived from the secret with the day of that date, then with the host. So a signature is
valid for one host and, within SKEW, for one time. The body and some headers are not signed: on a
network they are protected by TLS in front of the daemon, or not at all.

Messages, titles and their order are those of the Backend.AI manager, since its clients show them.
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
"""The allowed difference between the clocks of a client and of this host, either way."""

HASHES = frozenset(
    ("sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s")
)
"""The algorithms of hashlib.algorithms_guaranteed with a fixed digest of 256 bits or more."""

_SCHEMES = ("BackendAI", "Sorna")
_DATES = (b"date", b"x-backendai-date", b"x-sorna-date")
_VERSIONS = (b"x-backendai-version", b"x-sorna-version")
_NO_TYPE = b"application/octet-stream"  # the meaning of an absent Content-Type

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case, in the order of the request."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The sender that a request names. Nothing of it is proven before `verify`.

    when       its date, in the zone that it was written in
    signature  hexadecimal, as sent
    rest       the string to sign without its first and last line
    """

    access_key: str
    hash: str
    signature: bytes
    when: datetime
    host: bytes
    rest: bytes


def claim(target: bytes, headers: Headers, now: datetime) -> Claim:
    """The claim of the request for `target` (path and query as sent) at the time `now`.

    Raises AuthFailed when it is not signed, AuthInvalid when its signature cannot be checked.
    """
    first = _first(headers)
    authorization = first.get(b"authorization")
    raw_date = next((first[name] for name in _DATES if first.get(name)), None)
    if not authorization and raw_date is None:  # an unsigned request is no invalid signature
        raise AuthFailed("Unauthorized access")
    when = _date(raw_date, now)
    if not authorization:
        raise AuthFailed("Unauthorized access")
    access_key, hash, signature = _credential(authorization.decode("latin-1"))
    version = next((name for name in _VERSIONS if name in first), None)
    if version is None:
        raise AuthInvalid("API version missing in request headers")
    host = first.get(b"host", b"")
    rest = (
        target,
        raw_date or b"",
        b"host:" + host,
        b"content-type:" + _media_type(first.get(b"content-type")),
        version + b":" + first[version],
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
    """The first value of each header; the handlers read that one, too."""
    first: dict[bytes, bytes] = {}
    for name, value in headers:
        first.setdefault(name, value)
    return first


def _media_type(value: bytes | None) -> bytes:
    return _NO_TYPE if value is None else value.partition(b";")[0].strip().lower()


def _date(raw: bytes | None, now: datetime) -> datetime:
    """The time in a date header. Raises AuthInvalid if it is malformed, or too far from `now`."""
    when = parse_date(raw.decode("latin-1")) if raw else None
    if when is None or abs(when - now) > SKEW:
        raise AuthInvalid("Date/time sync error")
    return when


def parse_date(text: str) -> datetime | None:
    """A date in ISO 8601 or in the form of RFC 7231, in UTC unless it names a zone; None if it is
    malformed."""
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
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    access_key, colon, signature = fields.get("credential", "").partition(":")
    method = fields.get("signMethod", "")
    if not (access_key and colon and method):
        raise AuthInvalid("Missing or malformed authorization parameters")
    kind, _, hash = method.lower().partition("-")
    if kind != "hmac" or hash not in HASHES:
        names = ", ".join(f"HMAC-{name.upper()}" for name in sorted(HASHES))
        raise AuthInvalid(f"Unsupported signMethod; known are {names}")
    return access_key, hash, signature
