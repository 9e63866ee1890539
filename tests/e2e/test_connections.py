"""The bound of connections that are in no file: the warden watches, the run ends by its limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from .daemon import run

Make = Callable[..., str]

PROGRAM = """
import socket, struct, sys, time
how, number, seconds = sys.argv[1], *map(int, sys.argv[2:])
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 400_000)
server.bind(("127.0.0.1", 0))
server.listen(4096)
for _ in range(number):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    client.connect(server.getsockname())
    client.setblocking(False)
    try:
        while client.send(bytes(65536)):
            pass
    except BlockingIOError:
        pass
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
print("made", flush=True)
time.sleep(seconds)
with open("/proc/sys/net/ipv4/tcp_max_tw_buckets") as file:
    print("at the end", file.read(), end="", flush=True)
"""
HELD_S = 60
LIMITS = {"exec": {"wall_s": 90}}


def program(how: str, number: int, seconds: int) -> dict[str, Any]:
    return {
        "clean": f"cat > connect.py <<'E'\n{PROGRAM}\nE",
        "exec": f"exec /usr/bin/python3 connect.py {how} {number} {seconds}",
        "limits": LIMITS,
    }


def assert_ended(http: httpx.Client, id: str, how: str) -> None:
    """Some 100 MB of connections end the run."""
    outcome = run(http, id, program(how, 250, HELD_S))
    verdict = outcome.results[-1]["verdict"]
    assert (verdict["outcome"], verdict["limit"]) == ("limit", "connections"), verdict
    assert "accept connections" in verdict["advice"]
    assert "at the end" not in outcome.text("stdout")


def test_run_that_fills_connections_and_accepts_none_is_ended_and_says_so(
    http: httpx.Client, session: Make
) -> None:
    assert_ended(http, session(), "closed")


def test_run_whose_connections_are_reset_before_it_accepts_them_is_ended(
    http: httpx.Client, session: Make
) -> None:
    assert_ended(http, session(), "reset")


def test_run_with_as_many_as_it_may_goes_on_and_bounds_those_in_time_wait(
    http: httpx.Client, session: Make
) -> None:
    outcome = run(http, session(), program("closed", 20, 2))
    assert outcome.exits[-1] == 0
    assert outcome.text("stdout").endswith("at the end 16384\n")
