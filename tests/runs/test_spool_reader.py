"""The spool reader, with spools that a flood has overwritten or that an owner has forged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxd.config import ConsoleConfig
from sandboxd.runs.journal import NO_POSITION
from sandboxd.runs.spool_reader import SpoolReader
from sandboxd.spool import SEGMENT, START, STDOUT, ConsoleWriter, SpoolPosition

KEEP = ConsoleConfig(head=2 * SEGMENT, tail=2 * SEGMENT, response_chars=100_000)


@pytest.fixture
def console(tmp_path: Path) -> int:
    return os.open(tmp_path / "console", os.O_RDWR | os.O_CREAT)


@pytest.fixture
def spool(console: int, tmp_path: Path) -> SpoolReader:
    return SpoolReader(console, os.open(tmp_path / "journal", os.O_RDWR | os.O_CREAT), KEEP)


def test_spool_is_read_to_its_end_and_on_from_there(console: int, spool: SpoolReader) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    writer.append(STDOUT, b"one ")
    part = spool.console(SpoolPosition(START), NO_POSITION)
    writer.append(STDOUT, b"two")
    next_part = spool.console(part.behind, NO_POSITION)
    assert (part.items, next_part.items) == ([["stdout", "one "]], [["stdout", "two"]])


def test_output_behind_the_end_position_waits_for_the_next_call(
    console: int, spool: SpoolReader
) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    writer.append(STDOUT, b"one ")
    end = writer.position
    writer.append(STDOUT, b"two")
    assert spool.console(SpoolPosition(START), end).items == [["stdout", "one "]]


def test_spool_of_a_flood_keeps_head_and_tail_and_counts_the_rest(
    console: int, spool: SpoolReader
) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    writer.append(STDOUT, b"begin\n")
    for _ in range(100):
        writer.append(STDOUT, b"x" * 8000)
    writer.append(STDOUT, b"\nfinis")
    part = spool.console(SpoolPosition(START), NO_POSITION)
    items, cursor = part.items, part.behind
    assert items[0][1].startswith("begin") and "dropped here" in items[1][1][3]
    assert cursor == SpoolPosition(writer.position, writer.written)
    assert spool.console(cursor, NO_POSITION).items == []


def test_reader_that_the_ring_has_overtaken_goes_on_with_what_is_left(
    console: int, spool: SpoolReader
) -> None:
    writer = ConsoleWriter(console, KEEP.head, KEEP.tail)
    for _ in range(25):
        writer.append(STDOUT, b"x" * 8000)
    cursor = spool.console(SpoolPosition(START), NO_POSITION).behind
    for _ in range(90):
        writer.append(STDOUT, b"y" * 8000)
    writer.append(STDOUT, b"finis")
    items = spool.console(cursor, NO_POSITION).items
    assert "dropped here" in items[0][1][3]
    assert sum(len(text) for kind, text in items if kind == "stdout") > 8000


def test_forged_spool_comes_to_an_end(console: int, spool: SpoolReader) -> None:
    os.pwrite(console, os.urandom(4 * SEGMENT), 0)
    part = spool.console(SpoolPosition(START), NO_POSITION)
    assert isinstance(part.items, list) and part.behind.position >= 0


def test_closed_spool_is_empty_and_its_descriptors_are_not_used_again(spool: SpoolReader) -> None:
    spool.close()
    spool.close()
    assert spool.console(SpoolPosition(START), NO_POSITION).items == [] and spool.events() == []
