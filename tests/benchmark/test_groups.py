"""The rows that groups make of measured times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scripts.benchmark import daemon
from scripts.benchmark.callers import Load, load
from scripts.benchmark.groups import cpu, latency, sessions, syscalls, throughput
from scripts.benchmark.rows import Row
from scripts.benchmark.sandboxes import BARE, BWRAP, Act


def by_key(rows: list[Row]) -> dict[str, Row]:
    return {row.key: row for row in rows}


def test_latency_is_compared_with_bubblewrap_of_the_same_round() -> None:
    times = {
        BARE: (1.0, 2.0), BWRAP: (5.0, 10.0), daemon.WARM: (5.0, 10.0), daemon.FRESH: (10.0, 20.0),
        daemon.EMPTY: (20.0, 40.0), "create + run + delete": (60.0, 120.0),
    }  # fmt: skip
    rows = by_key(latency.rows_of(times))
    values = [rows[key].value for key in ("warm", "fresh", "empty", "whole")]
    assert values == [1.0, 2.0, 4.0, 12.0]
    assert [rows[key].met for key in ("warm", "fresh")] == [True, False]
    assert rows[BWRAP].value == 5.0 and rows[BWRAP].unit == "x bare"


def test_latency_without_bubblewrap_says_so() -> None:
    times = dict.fromkeys((BARE, *daemon.STATES, "create + run + delete"), (1.0,))
    rows = by_key(latency.rows_of(times))
    assert rows["warm"].value is None and "not installed" in rows["warm"].note


def loads(kind: str, clients: int, *rates: float) -> throughput.Loads:
    return throughput.Loads(kind, clients, tuple(Load(rate, (1000 / rate,)) for rate in rates))


def test_throughput_is_compared_at_eight_clients_and_with_itself_at_32() -> None:
    unix, whole = "warm, Unix socket", "a session each run"
    result = throughput.measured(
        [
            loads(BWRAP, 8, 300.0, 150.0), loads(unix, 8, 600.0, 300.0), loads(unix, 1, 100.0),
            loads(unix, 32, 570.0, 300.0), loads(whole, 8, 30.0, 15.0), loads(whole, 32, 30.0),
        ]
    )  # fmt: skip
    rows = by_key(result.rows)
    assert rows["rate-warm"].value == 2.0 and rows["rate-whole"].value == 0.1
    assert rows["rate-many"].value == pytest.approx(0.975)
    curve = next(one for one in result.curves if one.name == unix)
    assert [clients for clients, _ in curve.points] == [1, 8, 32]
    assert result.sizing["runs a second, warm, 8 clients"] == "450"


def test_cpu_of_a_state_has_its_processes_below_it() -> None:
    cost = cpu.Cost([3.0, 5.0, 4.0], {"api": 20.0, "processes of the run": 40.0}, runs=15)
    rows = cpu.rows_of({daemon.WARM: cost}, {BWRAP: [4.7]})
    assert [row.key for row in rows] == [
        "cpu-bubblewrap", "cpu-warm", "cpu-warm-api", "cpu-warm-processes of the run",
    ]  # fmt: skip
    assert rows[1].value == 4.0 and rows[1].met is True
    assert rows[1].note == "0.85 x bwrap"
    assert rows[2].value == pytest.approx(20 / 15)


def test_creation_on_a_busy_host_is_compared_with_an_empty_host() -> None:
    rows = sessions.rows_of((10.0, 10.0), {1: (11.0,), 1000: (12.0,)}, (13.0,), 8000)
    assert [row.value for row in rows[1:]] == [1.1, 1.2, 1.3]
    assert rows[-1].key == "create" and rows[-1].met is False
    assert rows[-1].text == "create, 1000 sessions, 8000 processes"


def test_creation_without_room_for_processes_says_so() -> None:
    row = sessions.rows_of((10.0,), {1: (10.0,)}, (10.0,), 0)[-1]
    assert "no room" in row.note


def test_foreign_processes_are_there_for_the_time_of_the_block() -> None:
    with sessions.foreign_processes(16) as count:
        assert count == 16


def test_no_foreign_processes_where_the_host_has_no_room() -> None:
    with sessions.foreign_processes(1 << 30) as count:
        assert count == 0


def test_system_calls_have_the_floor_of_any_filter_beside_them() -> None:
    count = syscalls.source().count("double best")
    rows = syscalls.rows_of([[100.0] * count], [[125.0] * count], [[120.0] * count])
    assert rows[0].key == "syscalls" and rows[0].value == 1.25 and rows[0].met is False
    assert "1.20" in rows[0].note and len(rows) == 1 + count


def test_callers_act_at_the_same_time_and_report_each_act() -> None:
    @contextmanager
    def caller() -> Iterator[Act]:
        yield lambda: None

    result = load(caller, 3, 0.01)
    assert len(result.times) >= 3 and result.rate > 0
    assert all(time >= 0 for time in result.times)


def test_failure_of_one_caller_fails_the_load(capfd: pytest.CaptureFixture[str]) -> None:
    @contextmanager
    def caller() -> Iterator[Act]:
        yield lambda: 1 / 0

    with pytest.raises(RuntimeError, match="a caller failed"):
        load(caller, 2, 0.01)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_settings_that_this_version_does_not_have_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = {"console": {"input_s": 5, "no_such_key": 1}, "no_such_table": {"key": 1}}
    monkeypatch.setitem(daemon.SETTINGS, daemon.EMPTY, table)
    assert daemon.settings_of(daemon.EMPTY) == {"console": {"input_s": 5}}
    assert daemon.default("console", "input_s") == 300
    assert daemon.default("console", "no_such_key") == 0


def test_cpu_of_a_session_without_runs_is_named_by_process() -> None:
    cost = cpu.Cost([11.0, 12.0, 13.0], {"api": 30.0, "jobs": 45.0}, 10)
    rows = cpu.cycle_rows(cost)
    assert [(row.key, row.value) for row in rows] == [
        ("cpu-cycle", 12.0), ("cpu-cycle-api", 3.0), ("cpu-cycle-jobs", 4.5),
    ]  # fmt: skip
