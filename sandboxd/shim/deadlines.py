"""The deadlines of a step, as pure arithmetic on monotonic seconds.

wall      Runs from the step's start. It stands still while the program is seen to wait for its
          user and the client has not declined to answer: a person may think, but a client that
          just goes on polling cannot stop the clock. Nor can a program, by having one thread
          wait while others work, or by printing between its questions: it may stand still for
          `input_s` in all, and only an answer from the client makes that anew.
input     When that time is used up: standard input is closed, so nobody waits for ever.
cpu       The next moment at which the CPU limit could be reached, from what was used so far.
look      When to look again for a program that waits: 50 ms after the console fell quiet,
          then at twice the distance each time, up to half a second.
"""

from __future__ import annotations

from time import monotonic

from ..model import Limits

FIRST_LOOK, LAST_LOOK = 0.05, 0.5
LOOK_SHARE = 20


class Deadlines:
    """Of one run; `start` begins a step."""

    def __init__(self) -> None:
        self.waiting = False

    def start(self, limits: Limits, input_s: float) -> None:
        """A step begins now."""
        self._limits, self._input_s, self._patience = limits, input_s, input_s
        self._began = monotonic()
        self._wall = self._began + limits.wall_s
        self._cpu = self._began + limits.cpu_s / limits.cpus
        self._frozen_at: float | None = None
        self._waiting_since = self._began
        self._input: float | None = None
        self._look, self._distance = self._began + FIRST_LOOK, FIRST_LOOK
        self.waiting = False

    def elapsed(self, now: float) -> float:
        """Seconds since the step began."""
        return now - self._began

    def next(self, now: float) -> float:
        """The next moment at which something may be due; always within LAST_LOOK of `now`."""
        due = [self._look if not self.waiting else now + LAST_LOOK, self._cpu]
        if self._frozen_at is None:
            due.append(self._wall)
        if self._input is not None:
            due.append(self._input)
        return min(due)

    def wall_reached(self, now: float) -> bool:
        """The step has had its time."""
        return self._frozen_at is None and now >= self._wall

    def cpu_due(self, now: float) -> bool:
        """CPU time could be used up by now."""
        return now >= self._cpu

    def cpu_reached(self, now: float, used: float) -> bool:
        """`used` CPU seconds are all there are; else sets when to look again."""
        left = self._limits.cpu_s - used
        self._cpu = now + max(left / self._limits.cpus, 0.02)
        return left <= 0

    def look_due(self, now: float, quiet_since: float) -> bool:
        """It is time to look whether the program waits for input."""
        if quiet_since + FIRST_LOOK > self._look:  # it printed: begin again with short steps
            self._look, self._distance = quiet_since + FIRST_LOOK, FIRST_LOOK
            self._stop_waiting(now)
        return now >= self._look

    def looked(self, now: float, waits: bool, cost: float = 0.0) -> None:
        """The answer was `waits`, and it took `cost` seconds: looking may not become work."""
        self._distance = max(min(self._distance * 2, LAST_LOOK), cost * LOOK_SHARE)
        self._look = now + self._distance
        if waits and not self.waiting:
            self.waiting = True
            self._frozen_at = self._waiting_since = now
            self._input = now + self._patience
        elif not waits:
            self._stop_waiting(now)

    def input_reached(self, now: float) -> bool:
        """Nobody has answered in time."""
        return self._input is not None and now >= self._input

    def answered(self, now: float) -> None:
        """Input came: look again soon."""
        self._stop_waiting(now)
        self._patience = self._input_s
        self._look, self._distance = now + FIRST_LOOK, FIRST_LOOK

    def declined(self, now: float) -> None:
        """The client goes on without an answer: the program still waits, its time runs on."""
        self._thaw(now)

    def forget_input(self) -> None:
        """There is no standard input any more."""
        self._stop_waiting(monotonic())
        self._look = float("inf")

    def _stop_waiting(self, now: float) -> None:
        if self.waiting:
            self._patience -= now - self._waiting_since
        self.waiting = False
        self._input = None
        self._thaw(now)

    def _thaw(self, now: float) -> None:
        if self._frozen_at is not None:
            self._wall += now - self._frozen_at
            self._frozen_at = None
