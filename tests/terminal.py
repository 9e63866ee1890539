"""A user at a terminal of a sandbox, without api and HTTP: typing, reading, resizing, leaving."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from sandboxd import spool
from sandboxd.warden.runs.worker import Worker
from sandboxd.wire import messages

from .sandbox import Sandbox, slowed
from .waiting import PATIENCE_S, until

BASH = "stty -echo; echo ready; PS1= PS2= exec /bin/bash --norc --noediting"
"""A shell that neither prompts nor echoes: the terminal shows only the output of programs."""


class Sitting:
    """A terminal and its run.

    shown    all that it has shown, as bytes
    dropped  bytes of input that it would not take
    """

    def __init__(self, started: Worker, link: socket.socket, fds: list[int]) -> None:
        self.started = started
        self.shown, self.dropped = b"", 0
        self._link, self._fds = link, fds
        self._link.settimeout(PATIENCE_S)

    def type(self, text: str | bytes) -> None:
        """Type `text`."""
        data = text if isinstance(text, bytes) else text.encode()
        for start in range(0, len(data), 65536):
            chars = base64.b64encode(data[start : start + 65536]).decode()
            messages.send(self._link, {"op": "stdin", "chars": chars})

    def resize(self, rows: int, cols: int) -> None:
        """Change its size."""
        messages.send(self._link, {"op": "resize", "rows": rows, "cols": cols})

    def read(self) -> bool:
        """The next message; False at the end."""
        message, _ = messages.receive(self._link)
        if message is None:
            return False
        self.shown += base64.b64decode(message.get("out", ""))
        self.dropped += message.get("dropped", 0)
        return True

    def until(self, text: str | bytes) -> str:
        """Read until the terminal has shown `text`. The output up to there, which is forgotten."""
        wanted = text if isinstance(text, bytes) else text.encode()
        while wanted not in self.shown:
            assert self.read(), self.shown
        before, _, self.shown = self.shown.partition(wanted)
        return before.decode(errors="replace")

    def do(self, command: str) -> str:
        """Have the shell do `command`, and read what it prints."""
        self.type(f"{command}\necho end''mark\n")
        return self.until("endmark\r\n").replace("\r\n", "\n")

    def to_the_end(self) -> str:
        """Read until it closes."""
        while self.read():
            pass
        return self.shown.decode(errors="replace")

    def leave(self) -> None:
        """Go away."""
        self._link.close()

    def ended(self) -> dict[str, Any]:
        """The last event of its run, when that is over."""
        until(lambda: os.waitpid(self.started.pid, os.WNOHANG) != (0, 0), why="it goes on")
        return spool.read_events(self._fds[2])[-1]


@contextlib.contextmanager
def sit(sandbox: Sandbox, command: str = BASH, **limits: Any) -> Iterator[Sitting]:
    """A terminal on which `command` runs; ended at the latest when the `with` ends."""
    sandbox.runs += 1
    limit = slowed(asdict(replace(sandbox.limits, **limits)))
    steps = [
        {"name": name, "command": command if name == "exec" else None, "limits": limit}
        for name in ("clean", "build", "exec")
    ]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            started, fds = sandbox.start(
                theirs.fileno(), run=sandbox.runs, steps=steps, terminal=True
            )
        sitting = Sitting(started, ours, fds)
        try:
            if command == BASH:
                sitting.until("ready\r\n")
            yield sitting
        finally:
            sitting.leave()
            with contextlib.suppress(ChildProcessError):
                sitting.ended()
            messages.close_all(fds)
            sandbox.end(started)
