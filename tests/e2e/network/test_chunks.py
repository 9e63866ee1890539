"""Downloads in chunks: all bytes, at once as they come, and no byte behind the end."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from .programs import python
from .world import run

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")

CURL = "curl -sS --max-time 20 http://index.example"


@pytest.mark.parametrize(
    ("size", "count"), [(1, 20_000), (8192, 2000), (65536, 300), (1 << 20, 40), (30 << 20, 2)]
)
@pytest.mark.parametrize("option", ["", "--http1.0"])
def test_download_in_chunks_arrives_whole(
    http: httpx.Client, size: int, count: int, option: str
) -> None:
    content = hashlib.sha256()
    for number in range(count):
        content.update(bytes([number % 251]) * size)
    result = run(http, "packages", f"{CURL}/-/chunks?{size},{count} {option} | sha256sum")
    assert result.out.split()[0] == content.hexdigest()


def test_chunks_trailer_and_end_are_those_of_the_server(http: httpx.Client) -> None:
    result = run(http, "packages", f"{CURL}/-/chunks?2,2 --raw | sha256sum")
    body = b"2;n=0\r\n\0\0\r\n2;n=1\r\n\1\1\r\n0\r\nX-Count: 2\r\n\r\n"
    assert result.out.split()[0] == hashlib.sha256(body).hexdigest()


def test_wrong_framing_ends_the_download_with_an_error(http: httpx.Client) -> None:
    result = run(http, "packages", f"{CURL}/-/wrong; echo code $?")
    assert "hello!" not in result.out
    assert "code 0" not in result.out and "code" in result.out


def test_chunk_arrives_while_the_server_waits_with_the_next_one(http: httpx.Client) -> None:
    program = """
def get(path):
    sock = socket.create_connection(("127.0.0.1", PORT), 20)
    sock.sendall(b"GET http://index.example" + path + b" HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    return sock.makefile("rb")
answer = get(b"/-/first")
for line in answer:
    if line == b"first\\n":
        break
assert answer.readline() == b"\\r\\n"
get(b"/-/last").read()
print(answer.read())
"""
    assert python(http, program).out == "b'0\\r\\n\\r\\n'\n"
