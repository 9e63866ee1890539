"""`sandboxd shell`: the user's own terminal, connected to a terminal in a session.

Keys and window sizes go to the session, and the output of its terminal comes back unchanged. A
thread reads the keys. The handler of SIGWINCH only wakes this thread, since a signal handler must
not use the connection.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection

from ..errors import ConfigError, NotFound, Unavailable
from .connection.client import USER_AGENT, Client, raise_for
from .connection.endpoint import websocket
from .connection.references import session_path
from .connection.temporary_session import connect, create, deleted, end_at_signals, resources
from .main import FAULT, TIMED_OUT
from .reporter import Reporter

_TIMED = ("wall_s", "cpu_s")


def main(args: argparse.Namespace) -> int:
    """Open a terminal in the session, or in a new one; returns the shell's exit status."""
    if not (os.isatty(0) and os.isatty(1)):
        raise ConfigError("shell needs a terminal; without one, use 'sandboxd run'")
    end_at_signals()
    say = Reporter(args.quiet, False)
    with contextlib.ExitStack() as stack:
        config = resources(args)
        client = stack.enter_context(
            contextlib.closing(connect(args.socket, stack, say, args.name))
        )
        session = _session(client, args.name, config, stack, say)
        with say.program():
            code, words = attach(client.socket, session)
        for text in words:
            say.warning(text)
    return code


def _session(
    client: Client,
    name: str,
    config: dict[str, Any],
    stack: contextlib.ExitStack,
    say: Reporter,
) -> str:
    """The session of that name, or a new one, which is deleted when `stack` closes."""
    with contextlib.suppress(NotFound):
        return str(client.call("GET", session_path(name))["sessionId"])
    session = create(client, name, config)
    stack.enter_context(deleted(client, session))
    say.phase(f"a new session with {name}; its files go when you leave")
    return session


def attach(socket: str, session: str) -> tuple[int, list[str]]:
    """Use a terminal until its end; its exit status and the messages of sandboxd.

    Raises the daemon's refusal to open it, and Unavailable when the connection breaks.
    """
    words: list[str] = []
    with _opened(socket, session) as websocket, _raw():
        _send_keys(websocket)
        try:
            while True:
                frame = json.loads(websocket.recv())
                if frame["type"] == "out":
                    _write(base64.b64decode(frame["data"]))
                elif frame["type"] == "error":
                    words.append(frame["data"])
                elif frame["type"] == "end":
                    return _status(frame), words
        except ConnectionClosed:
            gone = "the daemon has closed the terminal: it was stopped or restarted"
            raise Unavailable("; ".join([*words, gone])) from None


@contextlib.contextmanager
def _opened(socket: str, session: str) -> Iterator[ClientConnection]:
    path = f"/stream/session/{session}/pty"
    try:
        connection = websocket(
            socket, path, compression=None, ping_interval=None, user_agent_header=USER_AGENT
        )
    except InvalidStatus as error:
        refusal = error.response
        raise_for(httpx.Response(refusal.status_code, content=bytes(refusal.body or b"")))
        raise Unavailable(str(error)) from None
    except (OSError, InvalidHandshake) as error:
        raise Unavailable(f"the daemon does not answer: {error}") from None
    with connection as opened:
        yield opened


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Raw mode, in which every key is passed on, also Ctrl-C; restored at the end."""
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _send_keys(websocket: ClientConnection) -> None:
    """Start the thread that sends sizes and keys."""
    changed, change = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def on_change(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(change, b".")

    signal.signal(signal.SIGWINCH, on_change)
    on_change()
    threading.Thread(target=_keys, args=(websocket, changed), daemon=True).start()


def _keys(websocket: ClientConnection, changed: int) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        while True:
            ready, _, _ = select.select([0, changed], [], [])
            if changed in ready:
                os.read(changed, 4096)
                size = os.get_terminal_size(0)
                # a terminal that does not know its size says 0
                _send(websocket, "resize", rows=size.lines or 24, cols=size.columns or 80)
            if 0 in ready:
                keys = os.read(0, 65536)
                if not keys:  # the user's terminal is gone
                    websocket.close()
                    return
                _send(websocket, "stdin", chars=base64.b64encode(keys).decode())


def _send(websocket: ClientConnection, kind: str, **fields: Any) -> None:
    websocket.send(json.dumps({"type": kind} | fields))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _status(end: dict[str, Any]) -> int:
    """The exit status for the last frame: the shell's, or one of those of `run`."""
    code = end["exitCode"]
    if code is None and (end["verdict"] or {}).get("limit") in _TIMED:
        return TIMED_OUT
    return FAULT if code is None or code < 0 else int(code)
