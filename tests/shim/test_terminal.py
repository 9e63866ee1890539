"""A terminal's output, byte by byte, does not get past the rate at which it is taken."""

from __future__ import annotations

import os
import selectors
import socket

from sandboxd.shim.terminal import FREE, LEAST, PseudoTerminal


def test_program_that_prints_byte_by_byte_is_held_back_long_before_a_flood() -> None:
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
