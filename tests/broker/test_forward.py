"""Plain HTTP requests: their target, their headers, and the secret that they get."""

from __future__ import annotations

import h11
import pytest

from sandboxd.broker.exchange import body_size, end_to_end
from sandboxd.broker.forward import ForwardedRequest, Secret, rewritten, secret_of, split
from sandboxd.broker.outcomes import Stopped
from sandboxd.network_hosts import HostPort

from ..each_case import each_case

INDEX = HostPort("index.example", 443)
SECRETS = (
    Secret(INDEX, "/simple/", "Authorization", "Bearer a"),
    Secret(INDEX, "/files/", "X-Token", "b"),
)


def request(method: bytes = b"GET", *headers: tuple[bytes, bytes]) -> h11.Request:
    every = [(b"Host", b"x"), *headers]
    return h11.Request(method=method, target=b"http://x/", headers=every)


@each_case(
    ("target", "host", "path"),
    [
        (b"http://index.example/a?b#", "", b""),
        (b"http://index.example", "index.example:80", b"/"),
        (b"http://Index.Example./a", "index.example:80", b"/a"),
        (b"HTTP://index.example:8080/a/../b?c=d", "index.example:8080", b"/a/../b?c=d"),
        (b"http://index.example?a", "index.example:80", b"/?a"),
        (b"http://[::1]:80/", "[::1]:80", b"/"),
        (b"https://index.example/", "", b""),
        (b"/a", "", b""),
        (b"*", "", b""),
        (b"http:///a", "", b""),
        (b"http://user@index.example/", "", b""),
        (b"http://index.example\\@other.example/", "", b""),
        (b"http://index.example:80:80/", "", b""),
        (b"http://0x7f.1/", "", b""),
        (b"ftp://index.example/", "", b""),
    ],
)
def test_target_of_a_request_line_is_one_host_and_path_or_refused(
    target: bytes, host: str, path: bytes
) -> None:
    if not host:
        with pytest.raises(Stopped):
            split(target)
        return
    wanted = split(target)
    assert (str(wanted.target), wanted.path) == (host, path)


@each_case(
    ("method", "path", "value"),
    [
        (b"GET", b"/simple/a", "Bearer a"), (b"HEAD", b"/simple/", "Bearer a"),
        (b"GET", b"/files/b?c=../%2e", "b"), (b"POST", b"/simple/a", None),
        (b"GET", b"/simple", None), (b"GET", b"/other/", None), (b"GET", b"/simple/../x", None),
        (b"GET", b"/simple/%2E%2e/x", None), (b"GET", b"/simple/./x", None),
        (b"GET", b"/simple//x", None), (b"GET", b"/simple/a%2Fb", None),
        (b"GET", b"/simple/a\\b", None), (b"GET", b"/simple/a%5cb", None),
        (b"GET", b"/simple/..;/x", None), (b"GET", b"/simple/..;a=b/x", None),
        (b"GET", b"/simple/.;/x", None), (b"GET", b"/simple/a;b=c", "Bearer a"),
        (b"GET", b"//simple/x", None), (b"OPTIONS", b"/simple/a", None),
    ],
)  # fmt: skip
def test_secret_is_for_get_and_head_below_its_path_alone(
    method: bytes, path: bytes, value: str | None
) -> None:
    wanted = ForwardedRequest(INDEX, path)
    if value is None:
        with pytest.raises(Stopped, match="is for GET and HEAD below /files/, /simple/"):
            secret_of(request(method), wanted, SECRETS)
    else:
        secret = secret_of(request(method), wanted, SECRETS)
        assert secret and secret.value == value


@pytest.mark.parametrize("target", [HostPort("index.example", 80), HostPort("x.example", 443)])
def test_request_to_another_host_or_port_has_no_secret(target: HostPort) -> None:
    assert secret_of(request(), ForwardedRequest(target, b"/simple/a"), SECRETS) is None


def test_header_of_the_run_gives_way_to_the_secret_and_the_secret_is_in_no_text() -> None:
    own = request(b"GET", (b"authorization", b"own"), (b"Accept", b"*/*"))
    new = rewritten(own, ForwardedRequest(INDEX, b"/simple/a"), SECRETS[0])
    assert dict(new.headers) == {
        b"host": b"index.example", b"accept": b"*/*", b"authorization": b"Bearer a",
        b"connection": b"close",
    }  # fmt: skip
    assert "Bearer" not in repr(SECRETS[0]) + str(SECRETS)


@each_case(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL",
             "X-Rewrite-URL"],
)  # fmt: skip
def test_request_with_a_secret_has_no_header_for_another_method_or_path(name: str) -> None:
    overriding = request(b"GET", (name.encode(), b"/admin"))
    wanted, key = ForwardedRequest(INDEX, b"/simple/a"), name.lower().encode()
    assert key not in dict(rewritten(overriding, wanted, SECRETS[0]).headers)
    assert key in dict(rewritten(overriding, wanted, None).headers)


def test_headers_of_the_connection_and_those_that_it_names_are_left_out() -> None:
    headers = [(b"connection", b"close, X-Own , Content-Length"), (b"x-own", b"1"),
               (b"upgrade", b"h2c"), (b"te", b"x"), (b"proxy-authorization", b"x"),
               (b"content-length", b"3"), (b"accept", b"x")]  # fmt: skip
    assert end_to_end(headers) == [(b"content-length", b"3"), (b"accept", b"x")]


@each_case(
    ("method", "status", "headers", "size"),
    [
        (b"GET", 200, [(b"Content-Length", b"7")], 7), (b"GET", 200, [], 0),
        (b"HEAD", 200, [(b"Content-Length", b"7")], 0),
        (b"GET", 304, [(b"Content-Length", b"7")], 0), (b"GET", 204, [], 0),
        (b"POST", 404, [(b"Content-Length", b"0")], 0),
        (b"GET", 200, [(b"Content-Length", b"7"), (b"Transfer-Encoding", b"chunked")], 0),
    ],
)  # fmt: skip
def test_size_of_a_body_is_that_of_its_framing(
    method: bytes, status: int, headers: list[tuple[bytes, bytes]], size: int
) -> None:
    response = h11.Response(status_code=status, headers=headers)
    assert body_size(method, response) == size
