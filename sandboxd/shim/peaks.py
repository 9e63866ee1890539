"""The peaks of a step: the most memory that its processes held, and the most processes at once.

The kernel's peak of a group counts the page cache too: a program that writes a large file would
seem to hold the file. The memory of a step is therefore sampled, as anonymous and shared memory.
A sample can miss a short peak. It is at least the largest resident set of a single process, which
the kernel keeps until init reaps the process (wait4(2)).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..jail.cgroup import Counters, Group

FIRST_SAMPLE_S = 0.02
"""Seconds from the start of a step to its first sample. The intervals then double up to those of
the storage check: many programs end within half a second. The last sample is at the end."""


@dataclass(slots=True)
class MemorySeen:
    """The observations of the memory of a step, in bytes.

    held       the largest sample of anonymous and shared memory
    cached     the largest sample of the page cache
    resident   the largest resident set of a process
    inherited  the resident set that each process has at least. exec(2) hands on the peak of the
               memory that it replaces (exec_mmap in fs/exec.c), and the first process of a step
               replaces that of init
    """

    held: int = 0
    cached: int = 0
    resident: int = 0
    inherited: int = 0


def peak_memory(seen: MemorySeen, group_peak: int) -> int:
    """The most memory that a step held. `group_peak` is the kernel's peak, the page cache included;
    0 where the kernel has none.

    A resident set that is not above the inherited one says only that no process was larger. Then
    the step held at most the peak of the group without its page cache.
    """
    resident = seen.resident
    if resident <= seen.inherited and group_peak:
        resident = min(resident, group_peak - seen.cached)
    return max(seen.held, resident)


class PeakSampler:
    """The samples of the current step of a run. `interval_s` is the time until the next one."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.begin()

    def begin(self) -> None:
        """Begin a step."""
        self._seen, self._tasks = MemorySeen(), 1
        self.interval_s = 0.0

    def sample(self, longest_s: float) -> None:
        """Take a sample; the next one is due after at most `longest_s`. Raises StageError."""
        self.interval_s = min(max(FIRST_SAMPLE_S, self.interval_s * 2), longest_s)
        held, cached = self._group.memory()
        self._seen.held = max(self._seen.held, held)
        self._seen.cached = max(self._seen.cached, cached)
        self._tasks = max(self._tasks, self._group.tasks())

    def record_processes(self, resident: int, inherited: int) -> None:
        """Take in the sizes of the processes that init has reaped."""
        self._seen.resident, self._seen.inherited = resident, inherited

    def memory(self, before: Counters, after: Counters) -> int:
        """The most memory that the step held, in bytes. The kernel's peak belongs to this step if
        it has grown; v2 starts it anew since Linux 6.12 only. If not, the samples are all that is
        known of small processes."""
        seen, peak = self._seen, after.memory_peak
        if peak and peak <= before.memory_peak and seen.resident <= seen.inherited:
            return seen.held
        return peak_memory(seen, peak)

    def tasks(self, before: Counters, after: Counters) -> int:
        """The most processes and threads. The kernel's peak belongs to this step if it has grown.
        If not, an earlier step had the peak, and the samples may have missed a short one."""
        grown = after.pids_peak > before.pids_peak
        return max(self._tasks, after.pids_peak if grown else 0)
