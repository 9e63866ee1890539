"""Upper bounds on elapsed time, and sleeps: forms that count, and forms that pass."""

from __future__ import annotations

from scripts.measures import waits

from ..each_case import each_case
from .sample import source, texts


@each_case(
    "bad",
    [
        "assert time.monotonic() - began < 2",
        "assert 5 >= time.perf_counter() - began",
        "assert 0.1 <= time.monotonic() - began < 2",
        "took = time.time() - began\n    assert took <= 2, 'late'",
        "if (took := loop.time() - began):\n        assert took < 2",
        "took: float = monotonic() - began\n    assert x == 1 and took < 2",
        "while True:\n        assert time.monotonic() < deadline",
        "assert verdict['usage']['wall_ms'] < 900",
    ],
)
def test_an_upper_bound_on_elapsed_time_counts_once(bad: str) -> None:
    assert len(texts(waits.elapsed_time, source(f"def test():\n    {bad}", "tests/a.py"))) == 1
    assert texts(waits.elapsed_time, source(f"def test():\n    {bad}")) == []


@each_case(
    "good",
    [
        "assert time.monotonic() - began >= 2",
        "assert 2 < time.monotonic() - began",
        "took = time.time() - began\n    assert other < 2",
        "assert len(rows) < 3",
        "assert verdict['usage']['cpu_ms'] < 900",
    ],
)
def test_a_lower_bound_on_elapsed_time_passes(good: str) -> None:
    assert texts(waits.elapsed_time, source(f"def test():\n    {good}", "tests/a.py")) == []


def test_sleeps_of_tests_count_but_for_those_of_no_time() -> None:
    text = (
        "time.sleep(1)\nawait asyncio.sleep(0.1)\nsleep(x)\nawait asyncio.sleep(0)\nrun('sleep 1')"
    )
    sleeps = ["time.sleep(1)", "asyncio.sleep(0.1)", "sleep(x)"]
    assert sorted(texts(waits.sleeps, source(text, "tests/a.py"))) == sorted(sleeps)
    assert texts(waits.sleeps, source(text)) == []
