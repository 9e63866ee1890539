"""The reader of a run, in the place of the api."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from sandboxd.wire import messages


def follow(fd: int, answers: list[str | None], on_wait: Callable[[], object]) -> int:
    """Be the reader of a run until it is over; how often it was seen to wait for input."""
    state: dict[str, Any] = {"console": 0, "journal": 0, "waiting": False}
    waited = 0
    with socket.socket(fileno=fd) as control:
        control.setblocking(True)  # the api, whose it is, does not wait on it
        while True:
            try:
                messages.send(control, {"op": "watch"} | state)
                message, _ = messages.receive(control)
            except OSError:
                return waited
            if message is None:
                return waited
            if message["waiting"] and not state["waiting"]:
                waited += 1
                on_wait()
                if answers:
                    text = answers.pop(0)
                    messages.send(control, {"op": "input", "text": text or "", "eof": text is None})
                    message["waiting"] = False
            state = message
