"""The refusal of web pages that are open on this host, where requests are unsigned."""

from __future__ import annotations

import ipaddress

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.access.csrf import is_loopback, refuse_pages
from sandboxd.errors import Forbidden

from ..each_case import each_case

OWN = {"host": "localhost:8080"}


def headers(fields: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]


@each_case(
    "host",
    ["localhost", "localhost:8080", "LOCALHOST:1", "127.0.0.1:80", "127.8.9.1", "[::1]", "[::1]:80",
     "a.localhost:8080"],
)  # fmt: skip
def test_program_that_speaks_to_the_loopback_is_served(host: str) -> None:
    refuse_pages(headers({"host": host}))
    refuse_pages(headers({"host": host, "sec-fetch-site": "none"}))


@each_case(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
     "0.0.0.0:80", "[::]:80", "192.168.1.1", "127.1", "2130706433", "0x7f000001", "localhost:x",
     "localhost:80:80", "localhost@evil.example", "[127.0.0.1]", "[localhost]", "[::1]x:1", "",
     "notlocalhost", "::1", "localhost:\xb2"],
)  # fmt: skip
def test_foreign_host_name_that_points_to_the_loopback_is_refused(host: str) -> None:
    with pytest.raises(Forbidden, match="Host localhost"):
        refuse_pages(headers({"host": host}))


@each_case(
    "more",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:3000"},
     {"origin": "https://localhost:8080"}, {"origin": "http://127.0.0.1:8080"}, {"origin": ""},
     {"origin": "http://localhost:8080.evil.example"}, {"sec-fetch-site": "cross-site"},
     {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "anything"}],
)  # fmt: skip
def test_page_of_another_site_is_refused(more: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="page"):
        refuse_pages(headers(OWN | more))


def test_page_of_the_daemon_itself_is_served() -> None:
    refuse_pages(
        headers(OWN | {"origin": "http://localhost:8080", "sec-fetch-site": "same-origin"})
    )


def test_repeated_header_with_one_foreign_value_is_refused() -> None:
    for name, good, bad in (
        (b"host", b"localhost", b"evil.example"),
        (b"sec-fetch-site", b"none", b"cross-site"),
    ):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(Forbidden):
                refuse_pages([(name, value) for value in pair])


@hypothesis.given(st.ip_addresses())
def test_only_addresses_of_the_loopback_count_as_loopback(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    host = f"[{address}]:80" if address.version == 6 else f"{address}:80"
    assert is_loopback(host) == address.is_loopback


@hypothesis.given(st.text(st.characters(max_codepoint=0xFF)))
def test_any_text_in_the_header_host_is_accepted_or_refused_without_an_error(text: str) -> None:
    try:
        refuse_pages(headers({"host": text.lower(), "origin": text}))
    except Forbidden as error:
        assert str(error)
