"""The rules for hosts: one form of each name and address, and nothing that only looks like one."""

from __future__ import annotations

import ipaddress

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.errors import Invalid
from sandboxd.network_hosts import (
    HostPattern,
    HostPort,
    address_of,
    covered,
    is_public,
    parse_host,
    parse_pattern,
    parse_target,
)

from .each_case import each_case


@each_case(
    ("text", "host"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("example.org.", "example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a_b.example", "a_b.example"),
        ("1.example", "1.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("localhost", "localhost"),
    ],
)
def test_host_has_one_form(text: str, host: str) -> None:
    assert parse_host(text) == host


@each_case(
    "text",
    [
        "", ".", "..", "example..org", ".example.org", "example.org..", "-a.example", "a-.example",
        "exa mple.org", "example.org\0", "example.org/", "user@example.org", "b\u00fccher.example",
        "example\u3002org", "\uff45xample.org", "ex%61mple.org", "a" * 64 + ".example",
        ".".join(["a" * 60] * 5), "*", "*.example", "example.org#", "a\\b.example",
        # numbers that resolvers read as addresses
        "127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.01", "127.0.0.1.",
        "1.2.3.4.5", "256.0.0.1", "0x7f.0.0.0x1", "example.0x", "example.1", "0",
        "\u0661\u0662\u0667.0.0.1",
        # IPv6
        "[::1", "::1]", "[::1%lo]", "[1.2.3.4]", "[example.org]", "[]", ":", "::1::",
    ],
)  # fmt: skip
def test_text_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_host(text)


@hypothesis.given(st.text(max_size=30))
def test_any_text_is_a_host_in_its_one_form_or_refused(text: str) -> None:
    try:
        host = parse_host(text)
    except Invalid:
        return
    assert parse_host(host) == host
    assert host.isascii() and host == host.lower()


@each_case(
    ("text", "default", "target"),
    [
        ("example.org:443", None, HostPort("example.org", 443)),
        ("Example.org.:1", None, HostPort("example.org", 1)),
        ("[::1]:8080", None, HostPort("::1", 8080)),
        ("example.org", 80, HostPort("example.org", 80)),
        ("[::1]", 80, HostPort("::1", 80)),
    ],
)
def test_target_is_a_host_and_a_port(text: str, default: int | None, target: HostPort) -> None:
    assert parse_target(text, default) == target


@each_case(
    "text",
    ["example.org", "example.org:", "example.org:0", "example.org:65536", "example.org:080",
     "example.org:+80", "example.org:8 0", "example.org:\u0664\u0664\u0663", "::1:80", "::1",
     "example.org:80:80", ":80", "[::1]80", "example.org:443/x", "a:b@example.org:443"],
)  # fmt: skip
def test_text_that_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_target(text)


@each_case(
    ("pattern", "target", "covers"),
    [
        ("example.org:443", "example.org:443", True),
        ("Example.ORG.:443", "example.org:443", True),
        ("example.org:443", "example.org:80", False),
        ("example.org:443", "www.example.org:443", False),
        ("example.org:443", "example.org.evil.test:443", False),
        ("*.files.example:443", "a.files.example:443", True),
        ("*.files.example:443", "A.Files.Example.:443", True),
        ("*.files.example:443", "files.example:443", False),
        ("*.files.example:443", "a.b.files.example:443", False),
        ("*.files.example:443", "afiles.example:443", False),
        ("*.files.example:443", "a.files.example:444", False),
        ("192.0.2.7:443", "192.0.2.7:443", True),
        ("192.0.2.7:443", "192.0.2.8:443", False),
        ("[2001:db8::1]:443", "[2001:db8:0:0::1]:443", True),
    ],
)
def test_pattern_covers_its_host_and_port_alone(pattern: str, target: str, covers: bool) -> None:
    assert parse_pattern(pattern).covers(parse_target(target)) is covers
    assert covered(parse_target(target), [parse_pattern(pattern)]) is covers


@each_case("text", ["*:443", "*.org:443", "*.0.0.1:443", "a.*.example:443",
                                  "**.example.org:443", "*.*.example.org:443", "*.example.org",
                                  "*.[::1]:443", "*.192.0.2.1:443"])  # fmt: skip
def test_pattern_with_another_star_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_pattern(text)


def test_narrower_pattern_is_within_its_profile() -> None:
    wide = parse_pattern("*.files.example:443")
    assert wide.includes(wide)
    assert wide.includes(parse_pattern("a.files.example:443"))
    assert not wide.includes(parse_pattern("a.files.example:80"))
    assert not parse_pattern("a.files.example:443").includes(wide)
    assert not parse_pattern("a.files.example:443").includes(
        HostPattern(HostPort("a.files.example", 443), wildcard=True)
    )


@each_case(
    "text",
    ["0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
     "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.0.1",
     "198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1",
     "255.255.255.255", "192.88.99.1", "168.63.129.16",
     "::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8", "::127.0.0.1", "fe80::1",
     "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2002:7f00:1::", "2002:808:808::",
     "2001::1", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "64:ff9b::127.0.0.1",
     "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8", "100::1", "4000::1", "5f00::1",
     "2001:4860:4860::8888%lo"],
)  # fmt: skip
def test_address_of_no_public_host_is_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@each_case("text", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "192.1.0.1", "100.128.0.1",
                                  "223.255.255.255", "2001:4860:4860::8888", "2606:4700::1111",
                                  "64:ff9b::8.8.8.8"])  # fmt: skip
def test_public_address_is_allowed(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@hypothesis.given(st.ip_addresses())
def test_address_that_is_allowed_is_public_for_the_library_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address) and address not in ipaddress.ip_network("64:ff9b::/96"):
        assert not (address.is_private or address.is_loopback or address.is_multicast)
        assert not (address.is_link_local or address.is_unspecified)


def test_a_name_is_no_address() -> None:
    assert address_of("example.org") is None
    assert address_of("192.0.2.1") == ipaddress.ip_address("192.0.2.1")
