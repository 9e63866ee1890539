"""Requests that try to lead the broker to another host: forms of names, two readings."""

from __future__ import annotations

import json

import httpx
import pytest

from .programs import python

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter")


@pytest.mark.parametrize(
    "target",
    ["0x7f.1", "0x0b000002", "184549378", "11.2", "013.0.0.2", "11.0.0.2.", "index.example%00",
     "index..example", "*.files.example", "index.example@other.example", "b\\xfccher.example"],
)  # fmt: skip
def test_target_in_another_form_is_no_host(http: httpx.Client, target: str) -> None:
    program = f"""
ask(b"CONNECT {target}:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
ask(b"GET http://{target}/hello HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
"""
    result = python(http, program)
    assert result.out.count("HTTP/1.1 400 ") == 2, result.out
    assert "HTTP/1.1 200" not in result.out


REQUESTS = {
    "origin form": b"GET /hello HTTP/1.1\r\nHost: index.example\r\n\r\n",
    "https": b"GET https://index.example/hello HTTP/1.1\r\nHost: index.example\r\n\r\n",
    "two lengths": b"POST http://index.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                   b"Content-Length: 6\r\n\r\nabcdef",
    "length and chunks": b"POST http://index.example/hello HTTP/1.1\r\nHost: x\r\n"
                         b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of HTTP/1.0": b"POST http://index.example/hello HTTP/1.0\r\nHost: x\r\n"
                          b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"GET http://index.example/ HTTP/1.1\r\nHost : x\r\n\r\n",
    "bare CR in header": b"GET http://index.example/ HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "no host": b"GET http:///hello HTTP/1.1\r\nHost: x\r\n\r\n",
    "user": b"GET http://index.example@other.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect with body": b"CONNECT index.example:443 HTTP/1.1\r\nHost: x\r\n"
                         b"Content-Length: 3\r\n\r\nabc",
    "other version": b"GET http://index.example/ HTTP/2.0\r\nHost: x\r\n\r\n",
    "not HTTP": b"\x05\x01\x00",
    "long head": b"GET http://index.example/ HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 40000,
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_request_that_can_be_read_in_two_ways_is_refused(http: httpx.Client, name: str) -> None:
    result = python(http, f"ask({REQUESTS[name]!r})")
    answers = ("HTTP/1.1 400 ", "HTTP/1.1 403 ", "(reset)")
    assert result.out.startswith(answers) or name == "not HTTP", result.out
    assert "hello" not in result.out and "HTTP/1.1 200" not in result.out
    assert len(result.log) == 1
    assert result.log[0].startswith("the network refused a connection: ")


def test_smuggled_and_pipelined_requests_reach_no_server(http: httpx.Client) -> None:
    second = b"GET http://index.example/hello HTTP/1.1\r\nHost: index.example\r\n\r\n"
    both = (
        b"POST http://index.example/ HTTP/1.1\r\nHost: index.example\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    first = b"GET http://index.example/-/headers HTTP/1.1\r\nHost: index.example\r\n\r\n"
    result = python(http, f"ask({both + second!r})\nask({first + second!r})")
    assert "hello" not in result.out.replace("/hello", "")
    assert result.out.count("HTTP/1.1 200") <= 2


def test_headers_of_the_connection_and_a_false_host_go_no_further(http: httpx.Client) -> None:
    head = (
        b"GET http://INDEX.example:80/-/headers HTTP/1.1\r\nHost: other.example\r\n"
        b"Connection: keep-alive, X-Own, Upgrade\r\nX-Own: 1\r\nUpgrade: websocket\r\n"
        b"Proxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n"
        b"X-Kept: 2\r\n\r\n"
    )
    result = python(http, f"ask({head!r})")
    headers = json.loads(result.out.partition("\r\n\r\n")[2] or result.out.splitlines()[-1])
    assert headers == {"host": "index.example", "x-kept": "2", "connection": "close"}


def test_server_cannot_change_the_protocol(http: httpx.Client) -> None:
    head = b"GET http://index.example/-/switch HTTP/1.1\r\nHost: index.example\r\n\r\n"
    result = python(http, f"ask({head!r})")
    assert "switched" not in result.out
    assert result.out.startswith("HTTP/1.1 502 ")
