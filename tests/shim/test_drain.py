"""The output in the pipes of a step at its end: it is read, and later output of others is not."""

from __future__ import annotations

import os
import selectors
from pathlib import Path

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.shim.console import CHUNK, ConsoleCopier
from sandboxd.spool import STDOUT, ConsoleWriter


def test_pipe_that_another_run_goes_on_to_write_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program has sent its standard output to another run of the session, which fills the pipe
    faster than it is read."""
    spool = os.open(tmp_path / "console", os.O_RDWR | os.O_CREAT)
    console = ConsoleCopier(selectors.DefaultSelector(), ConsoleWriter(spool, 1 << 20, 1 << 20))
    out, _ = console.attach(STEP_LIMITS)
    piece = b"x" * CHUNK
    os.write(out, piece)
    copy, copied = console._copy, 0

    def filled_again(fd: int) -> int:
        nonlocal copied
        copied += 1
        assert copied < 10, "it goes on for ever"
        size = copy(fd)
        if size == CHUNK:
            os.write(out, piece)
        return size

    monkeypatch.setattr(console, "_copy", filled_again)
    console.drain()
    assert console.received[STDOUT] == CHUNK
    os.close(spool)
