"""Sockets that a run leaves, and the ports of the next run of its session."""

from __future__ import annotations

import textwrap

from .daemon import run
from .terminals import sit
from .waiting_jails import WARM, Start, count, warm

SERVE = """
import socket
listener = socket.socket()
listener.bind(("127.0.0.1", 8080))
listener.listen()
client = socket.create_connection(("127.0.0.1", 8080))
server, _ = listener.accept()
server.close()
client.close()
"""
"""A server that closes first, so that its port is in TIME_WAIT, and that sets no SO_REUSEADDR."""

HOLD = """
import socket, time
door = socket.socket(socket.AF_UNIX)
door.bind("/home/work/door")
door.listen()
print("holds", "none", flush=True)
peer, _ = door.accept()
fds = socket.recv_fds(peer, 1, 1)[1]
peer.sendall(b"x")
time.sleep(600)
"""
GIVE = """
import socket
listener = socket.socket()
listener.bind(("127.0.0.1", 8080))
listener.listen()
peer = socket.socket(socket.AF_UNIX)
peer.connect("/home/work/door")
socket.send_fds(peer, [b"x"], [listener.fileno()])
assert peer.recv(1) == b"x"
"""


def python(program: str) -> str:
    """A command for the shell, with a newline in it."""
    return f"/usr/bin/python3 - <<'end'\n{textwrap.dedent(program)}end\n"


def test_port_of_an_ended_connection_is_free_in_the_next_run(start: Start) -> None:
    _, http = start(WARM)
    for _ in range(2):
        outcome = run(http, "kept", {"exec": python(SERVE)})
        assert (outcome.text("stderr"), outcome.exits[-1]) == ("", 0)


def test_port_of_a_socket_that_a_terminal_holds_is_free_in_the_next_run(start: Start) -> None:
    daemon, http = start(WARM)
    with sit(daemon, "kept") as screen:
        screen.type(python(HOLD))
        screen.until("holds none")
        for program in (GIVE, SERVE):
            outcome = run(http, "kept", {"exec": python(program)})
            assert (outcome.text("stderr"), outcome.exits[-1]) == ("", 0)


def test_run_that_has_closed_its_sockets_leaves_its_jail_to_the_next_one(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    first = warm(daemon)
    unconnected = "import socket\nsocket.socket().bind(('127.0.0.1', 8080))\nsocket.socketpair()\n"
    assert run(http, "kept", {"exec": python(unconnected)}).exits[-1] == 0
    assert warm(daemon) == first
