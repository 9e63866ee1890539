"""A client at a terminal of a real daemon, as a terminal emulator would be."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ..waiting import PATIENCE_S
from .daemon import Daemon

PROMPT = "work@sandbox:~$ "

WAITING = "sh -c 'echo wait''ing; exec sleep 60'\n"
"""A program to interrupt, once it has said "waiting": before, Ctrl-C might still be the shell's."""


class Screen:
    """The output of a terminal, and its other frames."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.shown = b""
        self.others: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> None:
        """Send a frame."""
        self.websocket.send(json.dumps({"type": kind} | fields))

    def type(self, text: str | bytes) -> None:
        """Type `text`."""
        data = text if isinstance(text, bytes) else text.encode()
        self.send("stdin", chars=base64.b64encode(data).decode())

    def read(self, timeout: float = PATIENCE_S) -> None:
        """Take the next frame. Raises ConnectionClosed at the end."""
        frame = json.loads(self.websocket.recv(timeout=timeout))
        if frame["type"] == "out":
            self.shown += base64.b64decode(frame["data"], validate=True)
        else:
            self.others.append(frame)

    def until(self, text: str) -> str:
        """Read until the terminal has shown `text`. The output up to there, which is forgotten."""
        while text.encode() not in self.shown:
            try:
                self.read()
            except TimeoutError:
                raise AssertionError(f"no {text!r} in {self.shown[-2000:]!r}") from None
        before, _, self.shown = self.shown.partition(text.encode())
        return before.decode(errors="replace")

    def to_the_end(self) -> list[dict[str, Any]]:
        """Read until it is closed, cleanly; all frames that are no output."""
        try:
            while True:
                self.read()
        except ConnectionClosed as closed:
            assert closed.rcvd and closed.rcvd.code == 1000
        return self.others


@contextmanager
def connected(daemon: Daemon, session: str) -> Iterator[Screen]:
    """A terminal of the session, whose shell has perhaps not begun."""
    url = f"{daemon.url.replace('http', 'ws')}/stream/session/{session}/pty"
    with connect(url, max_size=1 << 20, close_timeout=5) as websocket:
        yield Screen(websocket)


@contextmanager
def sit(daemon: Daemon, session: str) -> Iterator[Screen]:
    """A terminal of the session whose shell is ready."""
    with connected(daemon, session) as screen:
        screen.until(PROMPT)
        yield screen
