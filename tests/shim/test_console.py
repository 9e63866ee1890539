"""The copier of output: a program waits for a client that wants every byte, but not for ever."""

from __future__ import annotations

import os
import selectors
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.shim.console import ConsoleCopier
from sandboxd.spool import SEGMENT, ConsoleReader, ConsoleWriter, SpoolPosition

SIZES = 2 * SEGMENT, 8 * SEGMENT
END = 1 << 60


class Program:
    """A program that prints, its copier, and a reader of its console."""

    def __init__(self, file: int) -> None:
        self.selector = selectors.PollSelector()
        self.copier = ConsoleCopier(self.selector, ConsoleWriter(file, *SIZES))
        self.reader = ConsoleReader(file, *SIZES)
        self.out, self.err = self.copier.attach(
            replace(STEP_LIMITS, output=1 << 40, output_end=1 << 40)
        )
        os.set_blocking(self.out, False)

    def print(self, size: int) -> int:
        """Print as much of `size` bytes as the program can without being held back."""
        printed = 0
        while printed < size:
            try:
                printed += os.write(self.out, b"x" * min(4096, size - printed))
            except BlockingIOError:
                if not self.serve():
                    break
        return printed

    def serve(self) -> bool:
        """Copy what the copier reads now; whether it reads anything."""
        self.copier.resume(time.monotonic())
        events = self.selector.select(0)
        for key, _ in events:
            key.data(key.fd)
        return bool(events) and bool(self.selector.get_map())

    def close(self) -> None:
        """The end of the step."""
        self.copier.drain()
        self.selector.close()


@pytest.fixture
def program() -> Iterator[Program]:
    with tempfile.TemporaryFile() as file:
        program = Program(file.fileno())
        yield program
        program.close()


def test_program_that_is_too_far_ahead_of_its_client_waits_and_no_byte_is_lost(
    program: Program,
) -> None:
    read, place = 0, SpoolPosition()
    for _ in range(20):
        program.copier.hold(place.position)
        time_of_pause = time.monotonic() + 1  # its short pauses are over by then
        program.copier.resume(time_of_pause)
        assert program.print(100 * SEGMENT) < 20 * SEGMENT
        for record, behind in list(program.reader.read(place, END)):
            assert record.lost == 0
            read, place = read + len(record.data), behind
    assert read > 50 * SEGMENT and program.copier.cut == 0


def test_program_does_not_wait_for_a_client_that_reads_no_more(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.shim.console.HOLD_S", 0.0)
    program.copier.hold(0)
    assert program.print(40 * SEGMENT) == 40 * SEGMENT
    assert program.copier.cut > 0


def test_program_without_such_a_client_never_waits(program: Program) -> None:
    assert program.print(40 * SEGMENT) == 40 * SEGMENT
