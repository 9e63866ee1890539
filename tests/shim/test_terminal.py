"""A terminal's output, byte by byte, does not get past the rate at which it is taken."""

from __future__ import annotations

import os
import selectors
import socket
from types import SimpleNamespace

import pytest

from sandboxd.shim import terminal as module
from sandboxd.shim.terminal import FREE, LEAST, PseudoTerminal


def test_program_that_prints_byte_by_byte_is_held_back_long_before_a_flood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # no time passes in which a busy machine would allow the program more
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1.0))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with selectors.DefaultSelector() as selector, ours:
        terminal = PseudoTerminal(selector, theirs.detach())
        slave = os.open(terminal.path, os.O_WRONLY | os.O_NOCTTY)
        shown = 0
        while terminal._resume is None and shown < FREE // LEAST * 2:
            os.write(slave, b"x")
            for key, events in selector.select(1):
                key.data(events)
            shown += 1
            ours.recv(4096)
        assert terminal._resume is not None, "each has cost as much as a page"
        os.close(slave)
        terminal.finish()
