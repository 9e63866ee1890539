"""The deadlines of a step, as pure arithmetic on monotonic seconds.

wall      Runs from the start of the step. The clock stands still while the program waits for its
          user and the client has not declined to answer: a person may think, but a client that
          only polls cannot stop the clock. A program cannot stop it either, with one thread that
          waits while others work, or with output between its questions: the clock stands still
          for `input_s` in all, and only an answer of the client renews that time.
input     The end of that time. Standard input is then closed, so that no program waits for ever.
kill      The end of the grace after SIGTERM, which a step gets at the end of `wall`. It does not
          matter any more whether the program waits for input.
cpu       The next moment at which the CPU limit could be reached, from the CPU time used so far.
look      The next moment to check whether the program waits for input: 50 ms after its last
          output, then after twice the interval each time, up to half a second.
"""

from __future__ import annotations

from time import monotonic

from ..model import Limits

FIRST_LOOK, LAST_LOOK = 0.05, 0.5
"""The shortest and the longest interval between two checks, in seconds."""

LOOK_SHARE = 20
"""The interval is at least so many times as long as the check itself took."""


class Deadlines:
    """The deadlines of the steps of one run. `waiting`: the program waits for input."""

    def __init__(self) -> None:
        self.waiting = False

    def start(self, limits: Limits, input_s: float) -> None:
        """Begin a step now."""
        self._limits, self._input_s, self._input_left_s = limits, input_s, input_s
        self._began = monotonic()
        self._wall = self._began + limits.wall_s
        self._kill: float | None = None
        self._cpu = self._began + limits.cpu_s / limits.cpus
        self._frozen_at: float | None = None
        self._waiting_since = self._began
        self._input: float | None = None
        self._look, self._interval = self._began + FIRST_LOOK, FIRST_LOOK
        self.waiting = False

    def elapsed(self, now: float) -> float:
        """Seconds since the start of the step."""
        return now - self._began

    def next(self, now: float) -> float:
        """The earliest deadline or check; never later than LAST_LOOK after `now`."""
        due = [self._look if not self.waiting else now + LAST_LOOK, self._cpu]
        if self._kill is not None:
            due.append(self._kill)
        elif self._frozen_at is None:
            due.append(self._wall)
        if self._input is not None:
            due.append(self._input)
        return min(due)

    def wall_reached(self, now: float) -> bool:
        """Whether the wall-clock time of the step is used up."""
        return self._kill is None and self._frozen_at is None and now >= self._wall

    def begin_grace(self, now: float) -> None:
        """The step has got SIGTERM: it has to end within its grace."""
        self._kill = now + self._limits.grace_s

    @property
    def is_in_grace(self) -> bool:
        """Whether the step has got SIGTERM and has to end."""
        return self._kill is not None

    def kill_due(self, now: float) -> bool:
        """Whether the grace of the step is over."""
        return self._kill is not None and now >= self._kill

    def cpu_due(self, now: float) -> bool:
        """Whether the CPU time could be used up by now."""
        return now >= self._cpu

    def cpu_reached(self, now: float, used: float) -> bool:
        """Whether `used` CPU seconds reach the limit; if not, set the next moment to check."""
        left = self._limits.cpu_s - used
        self._cpu = now + max(left / self._limits.cpus, 0.02)
        return left <= 0

    def look_due(self, now: float, quiet_since: float) -> bool:
        """Whether it is time to check for a program that waits for input."""
        if quiet_since + FIRST_LOOK > self._look:  # new output: begin again with short intervals
            self._look, self._interval = quiet_since + FIRST_LOOK, FIRST_LOOK
            self._stop_waiting(now)
        return now >= self._look

    def record_look(self, now: float, waits: bool, cost: float = 0.0) -> None:
        """Take in the result of a check that took `cost` seconds: the program `waits` or not."""
        self._interval = max(min(self._interval * 2, LAST_LOOK), cost * LOOK_SHARE)
        self._look = now + self._interval
        if waits and not self.waiting:
            self.waiting = True
            self._frozen_at = self._waiting_since = now
            self._input = now + self._input_left_s
        elif not waits:
            self._stop_waiting(now)

    def input_reached(self, now: float) -> bool:
        """Whether the time for an answer of the client is over."""
        return self._input is not None and now >= self._input

    def record_input(self, now: float) -> None:
        """Take in an answer of the client: the time for answers is new, the next check is soon."""
        self._stop_waiting(now)
        self._input_left_s = self._input_s
        self._look, self._interval = now + FIRST_LOOK, FIRST_LOOK

    def expire_input(self, now: float) -> None:
        """The time for answers is over, but the input stays open: the clock of the step runs."""
        self._input = None
        self._thaw(now)

    def record_decline(self, now: float) -> None:
        """The client goes on without an answer: the program still waits, and its clock runs."""
        self._thaw(now)

    def stop_looking(self) -> None:
        """The step has no standard input any more: there is nothing to wait for."""
        self._stop_waiting(monotonic())
        self._look = float("inf")

    def _stop_waiting(self, now: float) -> None:
        if self.waiting:
            self._input_left_s -= now - self._waiting_since
        self.waiting = False
        self._input = None
        self._thaw(now)

    def _thaw(self, now: float) -> None:
        if self._frozen_at is not None:
            self._wall += now - self._frozen_at
            self._frozen_at = None
