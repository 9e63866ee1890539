"""Programs of runs that speak with the proxy themselves, and the broker of a daemon."""

from __future__ import annotations

from typing import Any

import httpx

from sandboxd.shim.broker_socket import PORT

from ...processes import children
from ..daemon import Daemon
from .world import Result, run

RAW = f"""
import socket, sys
PORT = {PORT}
def ask(*parts, end=b""):
    sock = socket.create_connection(("127.0.0.1", {PORT}), 20)
    answer = b""
    for part in parts:
        sock.sendall(part)
    try:
        while data := sock.recv(65536):
            answer += data
    except ConnectionResetError:
        answer += b"(reset)"
    print(answer.decode("latin-1"))
def connect(target, *more):
    sock = socket.create_connection(("127.0.0.1", {PORT}), 20)
    sock.sendall(b"CONNECT " + target + b" HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += sock.recv(1)
    return sock, head
"""
"""The beginning of programs that speak with the proxy themselves."""


def python(http: httpx.Client, program: str, profile: Any = "packages") -> Result:
    """The run of a program that begins with RAW."""
    main = {"name": "main.py", "content": RAW + program}
    return run(http, profile, "python3 main.py", image="python", files=[main])


def broker_of(daemon: Daemon) -> int:
    """The pid of the broker of a daemon, 0 if it has none."""
    assert daemon.process
    return next(iter(children(daemon.process.pid, "sandboxd: broker")), 0)
