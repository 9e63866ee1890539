"""The rows of the table, and the goals that some of them have.

A group of measurements returns rows, curves for the charts, and figures for the sizing table.
A row is known by its key. The goal with this key says which value is good enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Goal:
    """The bound of a row.

    key    the key of its row
    group  the group that measures the row
    text   the row's text, also where the row was not measured
    sign   "<=" or ">="
    unit   of the bound and of the row's value
    """

    key: str
    group: str
    text: str
    sign: str
    bound: float
    unit: str

    def is_met(self, value: float) -> bool:
        """The value is within the bound."""
        return value <= self.bound if self.sign == "<=" else value >= self.bound


GOALS = (
    Goal("warm", "latency", "a run in a session that has just run (warm)", "<=", 1.0, "x bwrap"),
    Goal("fresh", "latency", "a run in a session at rest (fresh)", "<=", 1.5, "x bwrap"),
    Goal("empty", "latency", "the same, no shim prepared (pool empty)", "<=", 2.5, "x bwrap"),
    Goal("whole", "latency", "create + run + delete", "<=", 2.5, "x bwrap"),
    Goal("rate-warm", "throughput", "8 clients, warm: runs a second", ">=", 1.3, "x bwrap"),
    Goal("rate-whole", "throughput", "8 clients, a session each run", ">=", 0.35, "x bwrap"),
    Goal("rate-many", "throughput", "32 clients against 8, warm", ">=", 1.0, "x"),
    Goal("cpu-warm", "cpu", "CPU of a warm run", "<=", 4.0, "ms"),
    Goal("cpu-fresh", "cpu", "CPU of a fresh run", "<=", 12.0, "ms"),
    Goal("create", "sessions", "create, busy host against empty host", "<=", 1.2, "x"),
    Goal("syscalls", "syscalls", "system calls, inside against outside", "<=", 1.10, "x"),
    Goal("upload", "bandwidth", "upload of 20 files of 1 MiB", ">=", 250, "MB/s"),
    Goal("download", "bandwidth", "download", ">=", 900, "MB/s"),
    Goal("console", "bandwidth", "console of 200 MB", ">=", 150, "MB/s"),
    Goal("idle", "rest", "processes for idle sessions", "<=", 0, "processes"),
    Goal("wakeups", "rest", "wake-ups of the daemon at rest", "<=", 1.0, "a second"),
)

_BY_KEY = {goal.key: goal for goal in GOALS}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    times  the measured times in milliseconds; the table shows median and 99th percentile
    value  the figure that the goal, if there is one, is about; None: it could not be measured
    note   the reason for a missing value, or a remark
    """

    key: str
    text: str
    times: tuple[float, ...] = ()
    value: float | None = None
    unit: str = ""
    note: str = ""

    @property
    def goal(self) -> Goal | None:
        """The goal of the row."""
        return _BY_KEY.get(self.key)

    @property
    def met(self) -> bool | None:
        """The goal is met; None without a goal or a value."""
        if self.goal is None or self.value is None:
            return None
        return self.goal.is_met(self.value)


def goal_row(
    key: str, value: float | None, times: tuple[float, ...] = (), note: str = "", text: str = ""
) -> Row:
    """The row of a goal; `text` replaces the text of the goal."""
    goal = _BY_KEY[key]
    return Row(key, text or goal.text, times, value, goal.unit, note)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one line in the chart `chart`: (clients or sessions, value)."""

    chart: str
    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(slots=True)
class Measured:
    """The result of a group.

    sizing  sentence of the sizing table -> figure with unit
    """

    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    sizing: dict[str, str] = field(default_factory=dict)


def unmeasured(groups: set[str], rows: list[Row]) -> list[Row]:
    """A row for each goal of these groups that has no row."""
    keys = {row.key for row in rows}
    missing = [goal for goal in GOALS if goal.group in groups and goal.key not in keys]
    return [goal_row(goal.key, None, note="not measured") for goal in missing]
