"""The fork of workers: a child keeps its own descriptors, and its parent's garbage closes none."""

from __future__ import annotations

import gc
import os
import socket

import pytest

from sandboxd.warden.fork import fork


class _Ring:
    """Garbage that only the collector finds, with a descriptor."""

    def __init__(self) -> None:
        self.itself = self
        self.sock = socket.socket()


def test_garbage_of_the_parent_closes_no_descriptor_of_the_child() -> None:
    gc.collect()
    gc.disable()
    try:
        number = _Ring().sock.fileno()
        read, write = os.pipe()

        def child() -> None:
            os.dup2(write, number)  # the number is free here, and stands for another file now
            gc.collect()
            os.write(number, b"still open")
            os._exit(0)

        pid = fork([write], child)
        os.close(write)
        with open(read, "rb") as output:
            assert output.read() == b"still open"
        assert os.waitpid(pid, 0)[1] == 0
        with pytest.warns(ResourceWarning, match="unclosed"):
            gc.collect()
    finally:
        gc.enable()
