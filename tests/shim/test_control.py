"""The first connection to a shim: a reader that waits for the end of the run."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from sandboxd.shim.control import END, Control, RunProgress
from sandboxd.wire import messages

RUNNING = RunProgress(100, 2, False)


class Shim:
    """A control socket with its first reader."""

    def __init__(self, listener: socket.socket) -> None:
        self.progress = RUNNING
        self.selector = selectors.DefaultSelector()
        self.control = Control(self.selector, listener, lambda: self.progress, lambda _, __: None)
        self.reader, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.reader.setblocking(False)
        self.control.add(self.end, END)

    def answer(self, progress: RunProgress) -> dict[str, object] | None:
        """The answer to the reader at this progress; None: there is none."""
        self.progress = progress
        self.control.notify()
        try:
            return messages.receive(self.reader)[0]
        except BlockingIOError:
            return None


@pytest.fixture
def shim() -> Iterator[Shim]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        shim = Shim(listener)
        with shim.selector, shim.reader, shim.end:
            yield shim


def test_output_and_ends_of_steps_are_no_news_and_a_question_is(shim: Shim) -> None:
    assert shim.answer(RunProgress(1 << 40, 3, False)) is None
    answer = shim.answer(RunProgress(200, 2, True))
    assert answer == {"console": 200, "journal": 2, "waiting": True, "inputs": 0}


def test_end_of_the_run_closes_the_connection(shim: Shim) -> None:
    assert shim.answer(RunProgress(200, 3, False)) is None
    shim.control.close()
    assert messages.receive(shim.reader) == (None, [])


def test_reader_may_watch_for_something_else(shim: Shim) -> None:
    watch = {"op": "watch", "console": 100, "journal": 2, "waiting": False}
    messages.send(shim.reader, watch)
    for key, _ in shim.selector.select(0):
        key.data(key.fd)
    assert shim.answer(RUNNING) is None
    assert shim.answer(RunProgress(101, 2, False)) is not None
