"""Archives over HTTP: owners, bombs, clients that go away, others that are served."""

from __future__ import annotations

import contextlib
import glob
import gzip
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from ..files.trees import File, entry, tar
from ..waiting import PATIENCE_S, until
from .bad_requests import assert_problem
from .conftest import Server

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.slow  # gigabytes are unpacked

MIB = 1 << 20
GROWTH_MAX = 64 * MIB


def put(http: httpx.Client, session: str, data: bytes) -> httpx.Response:
    return http.put(f"/session/{session}/archive", content=data)


def test_session_of_another_owner_is_not_there(server: Server) -> None:
    ann, ben = (server.signed(server.keypair()) for _ in range(2))
    id = ann.post("/session", json={"image": "c"}).json()["sessionId"]
    assert put(ann, id, tar(File("f"))).status_code == 200
    assert_problem(put(ben, id, tar(File("f", b"evil"))), 404)
    assert_problem(ben.get(f"/session/{id}/archive"), 404)
    assert_problem(server.signed(None).get(f"/session/{id}/archive"), 401)
    assert b"new" in ann.get(f"/session/{id}/archive").content


def bomb(pack: Callable[[bytes], bytes], size: int) -> bytes:
    """A tar with a file of `size` zeros, packed, and cut in its middle."""
    info = entry("bomb")
    info.size = 1 << 40
    streams = [pack(info.tobuf(1) + bytes(MIB - len(info.tobuf(1))))]
    return b"".join(streams + [pack(bytes(16 * MIB))] * (size // MIB // 16))


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_bomb_takes_no_memory_of_the_api(
    server: Server, session: str, pack: Callable[[bytes], bytes]
) -> None:
    """A quarter of a gigabyte from a few kilobytes; the end is missing, so that nothing stays."""
    data = bomb(pack, 256 * MIB)
    assert len(data) < MIB
    process = psutil.Process(server.process.pid)
    peak, over = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peak.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert_problem(put(server.client, session, data), 400)
    finally:
        over.set()
        watcher.join()
    assert max(peak) - peak[0] < GROWTH_MAX
    assert server.client.get(f"/session/{session}/files").status_code == 200


def test_others_are_served_while_an_archive_is_unpacked(server: Server, session: str) -> None:
    """A bomb that never ends keeps one request busy; a thousand others are answered meanwhile."""
    piece = gzip.compress(bytes(16 * MIB))
    over, sent = threading.Event(), threading.Event()
    info = entry("bomb")
    info.size = 1 << 40

    def chunks() -> Iterator[bytes]:
        yield gzip.compress(info.tobuf(1))
        while not over.is_set():
            yield piece
            sent.set()

    outcome: list[int] = []

    def upload() -> None:
        with server.new_client() as client:
            answer = client.put(f"/session/{session}/archive", content=chunks())
            outcome.append(answer.status_code)

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        assert sent.wait(PATIENCE_S)
        for _ in range(100):
            assert server.client.get("/").status_code == 200
        assert thread.is_alive()
    finally:
        over.set()
        thread.join(60)
    assert outcome == [400]


def begun(server: Server, session: str, body: bytes) -> socket.socket:
    """A connection with a PUT whose body has begun."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(server.path)
    head = f"PUT /session/{session}/archive HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    sock.sendall(head.encode() + body)
    return sock


@pytest.mark.parametrize("size", [0, 600, 200_000])
def test_client_that_goes_away_leaves_nothing(server: Server, session: str, size: int) -> None:
    data = tar(File("f", os.urandom(400_000)))
    with begun(server, session, data[:size]):
        pass
    with contextlib.closing(begun(server, session, data + bytes(1024))):
        pass
    listing = server.client.get(f"/session/{session}/files").json()
    assert json.loads(listing["files"]) == []

    def is_empty() -> bool:
        return not glob.glob(f"{server.base}/**/stage/tree", recursive=True)

    until(is_empty)
    until(lambda: put(server.client, session, tar(File("f"))).status_code == 200)
