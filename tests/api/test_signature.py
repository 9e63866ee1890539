"""The signature of a request: its signed parts, its unsigned parts, and its faults."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.access.signature import HASHES, Claim, claim, parse_date, verify
from sandboxd.errors import AuthFailed, AuthInvalid, Refused

from ..each_case import each_case
from ..signing import VERSION, signature

KEY = "AKEXAMPLEEXAMPLE0001"
SECRET = "secretsecretsecretsecretsecretsecret0001"
NOW = datetime(2026, 11, 23, 23, 53, 53, 604894, UTC)
DATE = "2026-11-23T23:53:53.604894+00:00"

# Made by the Backend.AI client for Python 23.9.10: method, target, date, host, type, version
RECORDED = {
    "POST with a query": (
        ("POST", "/session/a%20b/rename?name=n%2Bm", DATE, "127.0.0.1:8081"),
        "application/json", VERSION, "SHA256",
        "92ba76bfd8225b5893bbc8f7ca218d366ee25f6a05928ad080dcfb75d6868545",
    ),
    "WebSocket, the next day in Seoul": (
        ("GET", "/stream/session/x/execute", "2026-11-24T08:53:53.604894+09:00",
         "sandbox.example:80"),
        None, VERSION, "SHA256",
        "950a4b290c732f400b66fb45159539fb6c582c1608c753145b099eb69f615850",
    ),
    "DELETE, SHA-512": (
        ("DELETE", "/session/x", DATE, "[::1]:8443"),
        "text/plain", "v6.20220615", "SHA512",
        "fcdfbde84345a419a7bbf82137a87914c2fc5b5687d2c287a3e18a4d3ff7b080"
        "978088608000f33c9748c0d5c39dc995f7dd41160d00e9394c494663c3540073",
    ),
}  # fmt: skip


def request(**changes: str | None) -> list[tuple[bytes, bytes]]:
    """The headers of a well signed GET /x; None takes one away, "_" in names is "-"."""
    headers: dict[str, str | None] = {
        "host": "h:1", "date": DATE, "x-backendai-version": VERSION, "content-type": "text/plain",
    }  # fmt: skip
    digest = signature(SECRET, "GET", "/x", DATE, "20261123", "h:1", "text/plain")
    headers["authorization"] = f"BackendAI signMethod=HMAC-SHA256, credential={KEY}:{digest}"
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [(n.encode(), v.encode("latin-1")) for n, v in headers.items() if v is not None]


def read(now: datetime = NOW, target: bytes = b"/x", /, **changes: str | None) -> Claim:
    return claim(target, request(**changes), now)


def good(now: datetime = NOW, method: str = "GET", /, **changes: str | None) -> bool:
    return verify(read(now, **changes), method, SECRET)


@pytest.mark.parametrize("name", RECORDED)
def test_signature_of_the_official_client_is_accepted(name: str) -> None:
    (method, target, date, host), kind, version, hash, digest = RECORDED[name]
    headers = [
        (b"host", host.encode()), (b"date", date.encode()),
        (b"x-backendai-version", version.encode()),
        (b"authorization", f"BackendAI signMethod=HMAC-{hash}, credential={KEY}:{digest}".encode()),
    ]  # fmt: skip
    if kind:
        headers.append((b"content-type", kind.encode()))
    read = claim(target.encode(), headers, NOW)
    assert read.access_key == KEY
    assert verify(read, method, SECRET)
    assert not verify(read, method, SECRET[:-1])


@each_case(
    "changes",
    [
        {"host": "h:2"}, {"host": None}, {"content_type": "text/html"}, {"content_type": None},
        {"x_backendai_version": "v6.20220615"}, {"date": "2026-11-23T23:53:53.604895+00:00"},
        {"date": "2026-11-23T23:53:53.604894Z"}, {"date": "20261123T235353.604894+0000"},
        {"x_backendai_version": None, "x_sorna_version": VERSION},
    ],
)  # fmt: skip
def test_change_in_any_signed_part_breaks_the_signature(changes: dict[str, str | None]) -> None:
    assert good()
    assert not good(**changes)


def test_method_and_target_are_signed_as_they_were_sent() -> None:
    assert good(NOW, "get")
    assert not good(NOW, "DELETE")
    for target in (b"/y", b"/x?", b"/x?a=b", b"/%78"):
        assert not verify(read(NOW, target), "GET", SECRET)


@each_case(
    "changes",
    [
        {"content_type": "Text/Plain; charset=utf-8"}, {"content_type": " text/plain "},
        {"content_type": "text/plain;boundary=x"}, {"x_sorna_version": "v4.20181215"},
        {"x_backendai_date": "1999-01-01T00:00:00Z"}, {"user_agent": "x"},
    ],
)  # fmt: skip
def test_change_in_an_unsigned_header_does_not_break_the_signature(changes: dict[str, str]) -> None:
    assert good(**changes)


@each_case("header", ["date", "x_backendai_date", "x_sorna_date"])
@each_case(
    ("date", "day"),
    [
        (DATE, "20261123"),
        ("2026-11-23T23:53:53.604Z", "20261123"),
        ("2026-11-23T23:53:53", "20261123"),
        ("20261123T235353Z", "20261123"),
        ("2026-11-24T08:53:53.604894+09:00", "20261124"),
        ("2026-11-23T13:53:53-10:00", "20261123"),
        ("Mon, 23 Nov 2026 23:53:53 GMT", "20261123"),
        ("Mon, 23 Nov 2026 23:53:53 -0000", "20261123"),
        ("Tue, 24 Nov 2026 08:53:53 +0900", "20261124"),
    ],
)
def test_dates_have_several_forms_and_headers_and_count_in_their_own_zone(
    header: str, date: str, day: str
) -> None:
    digest = signature(SECRET, "GET", "/x", date, day, "h:1", "text/plain")
    authorization = f"BackendAI signMethod=HMAC-SHA256, credential={KEY}:{digest}"
    changes = {"date": None, "authorization": authorization} | {header: date}
    assert good(**changes)


def test_an_old_version_header_is_signed_under_its_own_name() -> None:
    line = f"x-sorna-version:{VERSION}"
    digest = signature(SECRET, "GET", "/x", DATE, "20261123", "h:1", "text/plain", line)
    authorization = f"Sorna signMethod=HMAC-SHA256, credential={KEY}:{digest}"
    changes = {"x_backendai_version": None, "x_sorna_version": VERSION}
    assert good(**changes, authorization=authorization)


def test_a_request_without_a_type_is_signed_as_octets() -> None:
    digest = signature(SECRET, "GET", "/x", DATE, "20261123", "h:1", "application/octet-stream")
    authorization = f"BackendAI signMethod=HMAC-SHA256, credential={KEY}:{digest}"
    assert good(content_type=None, authorization=authorization)


@each_case("hash", sorted(HASHES))
def test_signature_with_each_offered_hash_is_accepted(hash: str) -> None:
    assert hash in hashlib.algorithms_guaranteed and hashlib.new(hash).digest_size >= 32
    digest = signature(SECRET, "GET", "/x", DATE, "20261123", "h:1", "text/plain", hash=hash)
    authorization = f"BackendAI signMethod=HMAC-{hash.upper()},credential={KEY}:{digest}"
    assert good(authorization=authorization)


@each_case("seconds", [-900, -899, 0, 899, 900])
def test_date_up_to_fifteen_minutes_off_is_accepted(seconds: int) -> None:
    assert good(NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("off", [timedelta(seconds=900, microseconds=1), timedelta(days=365)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_date_more_than_fifteen_minutes_off_is_refused(off: timedelta, sign: int) -> None:
    with pytest.raises(AuthInvalid, match="Date/time sync error"):
        read(NOW + sign * off)


def credential(text: str) -> dict[str, str | None]:
    return {"authorization": text}


NOT_AUTHORIZED: dict[str, tuple[dict[str, str | None], type[Refused], str]] = {
    "nothing": ({"authorization": None, "date": None}, AuthFailed, "Unauthorized access"),
    "unsigned": ({"authorization": None}, AuthFailed, "Unauthorized access"),
    "empty": ({"authorization": ""}, AuthFailed, "Unauthorized access"),
    "no date": ({"date": None}, AuthInvalid, "Date/time sync error"),
    "empty date": ({"date": ""}, AuthInvalid, "Date/time sync error"),
    "no date at all": ({"date": "soon"}, AuthInvalid, "Date/time sync error"),
    "date before scheme": (
        {"date": "soon", **credential("Basic eDp5")}, AuthInvalid, "Date/time sync error"),
    "unsigned, date wrong": (
        {"authorization": None, "date": "soon"}, AuthInvalid, "Date/time sync error"),
    "one word": (credential("BackendAI"), AuthInvalid, "Malformed authorization header"),
    "other scheme": (credential("Basic eDp5"), AuthInvalid, "Invalid authorization type name"),
    "lower case": (credential("backendai x"), AuthInvalid, "Invalid authorization type name"),
    "nonsense": (
        credential("BackendAI x"), AuthInvalid, "Missing or malformed authorization parameters"),
    "no method": (
        credential("BackendAI credential=a:b"), AuthInvalid,
        "Missing or malformed authorization parameters"),
    "no credential": (
        credential("BackendAI signMethod=HMAC-SHA256"), AuthInvalid,
        "Missing or malformed authorization parameters"),
    "no colon": (
        credential("BackendAI signMethod=HMAC-SHA256, credential=ab"), AuthInvalid,
        "Missing or malformed authorization parameters"),
    "no key": (
        credential("BackendAI signMethod=HMAC-SHA256, credential=:b"), AuthInvalid,
        "Missing or malformed authorization parameters"),
    "weak hash": (
        credential("BackendAI signMethod=HMAC-MD5, credential=a:b"), AuthInvalid, "signMethod"),
    "short hash": (
        credential("BackendAI signMethod=HMAC-SHA1, credential=a:b"), AuthInvalid, "signMethod"),
    "hash of any length": (
        credential("BackendAI signMethod=HMAC-SHAKE_128, credential=a:b"), AuthInvalid,
        "signMethod"),
    "no MAC": (
        credential("BackendAI signMethod=SHA256, credential=a:b"), AuthInvalid, "signMethod"),
    "no version": (
        {"x_backendai_version": None}, AuthInvalid, "API version missing in request headers"),
}  # fmt: skip


@each_case("name", NOT_AUTHORIZED)
def test_each_fault_of_an_authorization_header_has_its_message(name: str) -> None:
    changes, kind, message = NOT_AUTHORIZED[name]
    with pytest.raises(kind, match=message) as caught:
        read(**changes)
    assert type(caught.value) is kind


@pytest.mark.parametrize("change", [str.upper, lambda s: s[:-1], lambda s: s + "0", lambda s: ""])
def test_only_the_exact_signature_is_accepted(change: object) -> None:
    assert callable(change)
    digest = signature(SECRET, "GET", "/x", DATE, "20261123", "h:1", "text/plain")
    text = f"BackendAI signMethod=HMAC-SHA256, credential={KEY}:{change(digest)}"
    assert not good(authorization=text)


@hypothesis.given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_random_authorization_header_is_refused_without_another_error(text: str) -> None:
    for value in (
        text,
        f"BackendAI {text}",
        f"BackendAI signMethod=HMAC-SHA256, credential={text}",
    ):
        try:
            assert not good(authorization=value)
        except Refused:
            pass  # as it should


ASCII = st.characters(max_codepoint=127)
MAIL = r"\w{0,3},? \d{1,6} (Jan|Nov|\w{3}) \d{1,9} \d\d:\d\d:\d\d [+-]?\d{1,9}"
ISO = r"\d{1,9}-\d\d?-\d\d?[T ]?\d\d?:?\d\d?:?\d\d?\.?\d{0,9}[+-]\d{1,9}"


@hypothesis.given(
    st.text(st.characters(max_codepoint=255), max_size=40)
    | st.from_regex(MAIL, fullmatch=True, alphabet=ASCII)
    | st.from_regex(ISO, fullmatch=True, alphabet=ASCII)
)
def test_random_date_is_refused_without_another_error(text: str) -> None:
    date = parse_date(text)
    assert date is None or date.tzinfo is not None
    try:
        read(date=text)
    except Refused:
        pass  # as it should


def test_signature_that_is_not_utf8_is_a_mismatch() -> None:
    assert not good(host="h\xff:1")
    assert not good(authorization=f"BackendAI signMethod=HMAC-SHA256, credential={KEY}:\xff\xfe")
