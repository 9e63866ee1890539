"""Floods of connections and messages against a real server: others are served, and the memory of
the api does not grow, or is given back."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from ..http_clients import unix_client
from ..waiting import until
from .bad_requests import assert_problem
from .conftest import Server
from .test_admission import create
from .test_overload import MIB, flat, frame, handshake

pytestmark = pytest.mark.slow  # floods of connections take seconds of CPU


def unfinished(sock: socket.socket) -> None:
    """Send a message of 2 MiB but for its last bytes, as far as the server takes it."""
    head = struct.pack("!BBQ4x", 0x81, 0xFF, 2_000_000)
    with contextlib.suppress(OSError):
        sock.sendall(head + b"x" * 1_999_000)


def test_unfinished_messages_cost_little_memory_and_hinder_no_other_client(
    start: Callable[..., Server],
) -> None:
    server = start({"http": {"bodies": 16 * MIB}})
    id = create(server.client)
    with contextlib.ExitStack() as stack, flat(server):
        for _ in range(60):  # without a bound 114 MiB
            unfinished(stack.enter_context(handshake(server, id)))
        with flat(server):
            pass


def test_memory_of_messages_is_given_back_when_their_connections_have_gone(
    start: Callable[..., Server],
) -> None:
    server = start({"http": {"bodies": 512 * MIB}})
    id = create(server.client)
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            unfinished(stack.enter_context(handshake(server, id)))
        until(lambda: process.memory_info().rss - before > 80 * MIB)
    until(lambda: process.memory_info().rss - before < 16 * MIB)


def test_messages_without_content_that_nobody_takes_cost_little_memory(
    own_server: Server,
) -> None:
    id = create(own_server.client)
    with contextlib.ExitStack() as stack, flat(own_server):
        for _ in range(60):  # without a bound, 4 MiB each
            sock = stack.enter_context(handshake(own_server, id))
            sock.settimeout(0.1)
            with contextlib.suppress(OSError):
                sock.sendall(frame(1, b"") * 11_000)


@pytest.mark.parametrize("value", ["{}", "[]", '"a"', "1"])
def test_body_of_very_many_values_is_refused(own_server: Server, value: str) -> None:
    values = ",".join([value] * 200_000)
    content = f'{{"image": "c", "config": {{"environ": [{values}]}}}}'
    headers = {"content-type": "application/json"}
    refused = own_server.client.post("/session", content=content, headers=headers)
    assert_problem(refused, 400)
    assert "values" in refused.text


def test_source_with_too_many_connections_is_refused(start: Callable[..., Server]) -> None:
    server = start({"http": {"source_connections": 3}})
    port = int((server.base / "port").read_text())
    key = server.keypair()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            assert stack.enter_context(server.signed(key)).get("/folders").status_code == 200
        until(lambda: refused(port))
        assert server.client.get("/").status_code == 200, "the Unix socket has no address"
    until(lambda: not refused(port))
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200


def refused(port: int) -> bool:
    """Whether the server refuses a connection at once; else it closes it for the bad request."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"\r\n\r\n?\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            return sock.recv(100).startswith(b"HTTP/1.1 429 ")
        return False


SOURCES = [f"127.0.0.{number}" for number in range(2, 6)]


@contextlib.contextmanager
def files(count: int) -> Iterator[None]:
    """This process may open `count` files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < count:
        pytest.skip(f"this host allows a process {before[1]} files, and the test needs {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, before[0]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def silence(port: int, each: int) -> Iterator[None]:
    """Silent connections from four addresses, `each` from one."""
    with contextlib.ExitStack() as stack:
        for source in SOURCES * each:
            sock = socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
            stack.enter_context(sock)
        yield


def test_2000_silent_connections_from_four_addresses_shut_out_neither_the_unix_socket_nor_keys(
    own_server: Server,
) -> None:
    port, key = int((own_server.base / "port").read_text()), own_server.keypair()
    early = own_server.signed(key)
    assert early.get("/folders").status_code == 200
    with files(4096), silence(port, 500):
        with own_server.new_client() as local:
            assert local.get("/folders").status_code == 200
        with own_server.signed(key) as late:
            assert late.get("/folders").status_code == 200
        with own_server.signed(None) as stranger:
            assert stranger.get("/").status_code == 200
        assert early.get("/folders").status_code == 200


def test_flood_of_the_metrics_listener_shuts_out_neither_its_readers_nor_the_api(
    own_server: Server,
) -> None:
    path = f"{own_server.path}-monitor"
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        with unix_client(path) as reader:
            health = reader.get("/healthz", headers={"host": "localhost"})
            assert health.status_code == 200
        assert own_server.client.get("/").status_code == 200


def test_keys_that_take_all_places_of_the_network_do_not_take_those_of_the_unix_socket(
    start: Callable[..., Server],
) -> None:
    server = start({"http": {"connections": 8, "source_connections": 9}})
    key = server.keypair()
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            assert stack.enter_context(server.signed(key)).get("/folders").status_code == 200
        with server.signed(key) as late:
            assert late.get("/folders").status_code == 503
        with server.new_client() as local:
            assert local.get("/folders").status_code == 200
