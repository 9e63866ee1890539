"""`sandboxd shell`: the user's own terminal, tied to one in a session.

Keys and sizes go one way, what the other terminal shows comes back, as it is. Keys are read in a
thread: a signal handler may not use the connection, so that of SIGWINCH wakes this thread.
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
from urllib.parse import quote

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from ..errors import ConfigError, NotFound, Unavailable
from .client import Client, raise_for
from .main import FAULT, TIMED_OUT
from .reporter import Reporter
from .temporary_session import connect, create, deleted, resources, terminated

_TIMED = ("wall_s", "cpu_s")


def main(args: argparse.Namespace) -> int:
    """Sit at a terminal of the session, or of a new one; the shell's exit status."""
    if not (os.isatty(0) and os.isatty(1)):
        raise ConfigError("shell needs a terminal; without one, use 'sandboxd run'")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, terminated)
    say = Reporter(args.quiet, False)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(connect(args.socket, stack, say)))
        session = _session(client, args, stack, say)
        code, words = sit(client.socket, session)
        for text in words:
            say.warning(text)
    return code


def _session(
    client: Client, args: argparse.Namespace, stack: contextlib.ExitStack, say: Reporter
) -> str:
    """The session of that name, which stays, or a new one, which goes when `stack` closes."""
    with contextlib.suppress(NotFound):
        return str(client.call("GET", f"/session/{quote(args.name, safe='')}")["sessionId"])
    session = create(client, args.name, resources(args))
    stack.enter_context(deleted(client, session))
    say.phase(f"a new session with {args.name}; its files go when you leave")
    return session


def sit(socket: str, session: str) -> tuple[int, list[str]]:
    """Sit at a terminal until its end: the exit status, and what sandboxd has to say of it.

    Raises what the daemon answers if it opens none, Unavailable when the connection breaks.
    """
    words: list[str] = []
    with _opened(socket, session) as websocket, _raw():
        _hand_over_keys(websocket)
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
    url = f"ws://sandboxd/stream/session/{session}/pty"
    try:
        made = unix_connect(socket, url, compression=None, ping_interval=None)
    except InvalidStatus as error:
        refusal = error.response
        raise_for(httpx.Response(refusal.status_code, content=bytes(refusal.body or b"")))
        raise Unavailable(str(error)) from None
    except (OSError, InvalidHandshake) as error:
        raise Unavailable(f"the daemon does not answer: {error}") from None
    with made as websocket:
        yield websocket


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key is handed on, Ctrl-C too; afterwards the terminal is as it was."""
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _hand_over_keys(websocket: ClientConnection) -> None:
    """Send sizes and keys from now on, in a thread of their own."""
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
                if not keys:  # our terminal is gone
                    websocket.close()
                    return
                _send(websocket, "stdin", chars=base64.b64encode(keys).decode())


def _send(websocket: ClientConnection, kind: str, **fields: Any) -> None:
    websocket.send(json.dumps({"type": kind} | fields))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _status(end: dict[str, Any]) -> int:
    """The exit status for the last frame: that of the shell, or as `run` has them."""
    code = end["exitCode"]
    if code is None and (end["verdict"] or {}).get("limit") in _TIMED:
        return TIMED_OUT
    return FAULT if code is None or code < 0 else int(code)
