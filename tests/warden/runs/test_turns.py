"""The turns of a count: who has little is done soon, and nobody is left out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from sandboxd.warden.runs import turns
from sandboxd.warden.runs.turns import SLICE, Unfinished, in_slices, take_turns


def look(number: int, seen: list[int] | None = None) -> Iterator[int]:
    for at in range(number):
        if seen is not None:
            seen.append(at)
        yield 1


def test_run_with_few_descriptors_is_done_behind_many_with_very_many() -> None:
    seen: list[int] = []
    looks = {f"{number}.1": look(1 << 30) for number in range(9)} | {"9.1": look(9, seen)}
    unfinished = take_turns(looks, 10 * SLICE)
    assert len(seen) == 9 and "9.1" not in unfinished.unclear
    assert len(unfinished.unclear) == 9


def test_bound_is_of_all_runs_together() -> None:
    seen: list[int] = []
    looks = {f"{number}.1": look(1 << 30, seen) for number in range(3)}
    take_turns(looks, 5 * SLICE)
    assert len(seen) == 5 * SLICE


def test_run_that_takes_more_units_than_any_program_is_named_and_not_looked_at_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "RUN_MAX", 3 * SLICE)
    looks = {"1.1": look(1 << 30), "2.1": look(2 * SLICE)}
    assert take_turns(looks, 1 << 30) == Unfinished([], ["1.1"])


def test_runs_that_were_cut_off_are_named_in_the_order_of_their_next_turns() -> None:
    looks = {name: look(1 << 30) for name in ("1.1", "2.1", "3.1")}
    assert take_turns(looks, 2 * SLICE) == Unfinished(["3.1", "1.1", "2.1"], [])


def test_run_that_cannot_be_looked_at_is_unclear_and_others_are_counted() -> None:
    def fail(number: int) -> Iterator[int]:
        yield 1
        raise OSError(number, os.strerror(number))

    seen: list[int] = []
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENXIO):
        looks = {"1.1": fail(number), "2.1": look(9, seen)}
        assert take_turns(looks, 1 << 30) == Unfinished(["1.1"], [])
    assert len(seen) == 45


def test_all_items_of_all_tables_come_and_each_table_has_its_turn() -> None:
    items = list(in_slices(iter([key] * size) for key, size in (("a", 3 * SLICE), ("b", 5))))
    assert items.count("a") == 3 * SLICE and items.count("b") == 5
    assert items.index("b") == SLICE


def test_no_more_tables_are_open_at_a_time_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_OPEN", 2)
    open_tables, most = set[int](), 0

    def table(number: int) -> Iterator[int]:
        nonlocal most
        open_tables.add(number)
        most = max(most, len(open_tables))
        yield from range(2 * SLICE)
        open_tables.discard(number)

    assert len(list(in_slices(map(table, range(5))))) == 10 * SLICE
    assert most == 2
