"""The rule for the peak of memory, and the samples that it uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.host.cgroupfs import GroupFiles
from sandboxd.jail.cgroup import Counters, Group
from sandboxd.shim.peaks import FIRST_SAMPLE_S, MemorySeen, PeakSampler, peak_memory

from ..each_case import each_case


@each_case(
    ("seen", "group_peak", "peak"),
    [
        # A sample that is larger than each process: several processes, or files in memory.
        (MemorySeen(held=160, resident=50, inherited=20), 170, 160),
        # A short peak between two samples.
        (MemorySeen(held=5, resident=100, inherited=20), 110, 100),
        # The page cache makes the peak of the group.
        (MemorySeen(held=3, cached=400, resident=10, inherited=8), 410, 10),
        # The resident set is that of init: the group had less, without the page cache.
        (MemorySeen(held=1, resident=20, inherited=20), 3, 3),
        (MemorySeen(held=1, cached=400, resident=20, inherited=20), 404, 4),
        (MemorySeen(held=1, cached=400, resident=20, inherited=20), 900, 20),
        # More page cache than the peak of the group: the peak began anew in between.
        (MemorySeen(held=2, cached=400, resident=20, inherited=20), 300, 2),
        # A kernel without a peak of the group (v2 before 5.19).
        (MemorySeen(held=1, cached=400, resident=20, inherited=20), 0, 20),
        # Killed together with init: there are samples only.
        (MemorySeen(held=90, cached=5), 100, 90),
    ],
)
def test_memory_peak_leaves_out_cached_files(seen: MemorySeen, group_peak: int, peak: int) -> None:
    assert peak_memory(seen, group_peak) == peak


@pytest.mark.parametrize(
    ("controllers", "stat"),
    [
        (("memory",), "cache 700\nrss 100\nrss_huge 60\nshmem 30\ntotal_rss 999\n"),
        (("",), "anon 100\nfile 700\nkernel 5\nshmem 30\nanon_thp 60\n"),
    ],
    ids=["v1", "v2"],
)
def test_held_memory_is_anonymous_and_shared_memory(
    tmp_path: Path, controllers: tuple[str, ...], stat: str
) -> None:
    (tmp_path / "memory.stat").write_text(stat)
    files = GroupFiles(dict.fromkeys(controllers, str(tmp_path)))
    assert files.held_and_cached() == (130, 670)


class StubGroup(Group):
    """A group with the memory and the tasks that a test sets."""

    def __init__(self) -> None:
        super().__init__({})
        self.use, self.count = (0, 0), 0

    def memory(self) -> tuple[int, int]:
        return self.use

    def tasks(self) -> int:
        return self.count


def test_largest_sample_of_the_step_is_its_peak() -> None:
    group = StubGroup()
    sampler = PeakSampler(group)
    for held, tasks in ((5, 1), (90, 4), (20, 2)):
        group.use, group.count = (held, 0), tasks
        sampler.sample(0.5)
    assert sampler.memory(Counters(), Counters()) == 90
    assert sampler.tasks(Counters(), Counters()) == 4
    assert sampler.tasks(Counters(pids_peak=4), Counters(pids_peak=9)) == 9
    sampler.begin()
    assert sampler.memory(Counters(), Counters(memory_peak=90)) == 0
    assert sampler.tasks(Counters(pids_peak=9), Counters(pids_peak=9)) == 1


def test_first_samples_follow_each_other_fast() -> None:
    sampler = PeakSampler(StubGroup())
    intervals = []
    for _ in range(7):
        sampler.sample(0.5)
        intervals.append(sampler.interval_s)
    assert intervals == [FIRST_SAMPLE_S * 2**n for n in range(5)] + [0.5, 0.5]


def test_peak_of_an_earlier_step_says_nothing_of_small_processes() -> None:
    sampler = PeakSampler(Group({}))
    sampler.record_processes(72, 72)
    earlier = Counters(memory_peak=90)
    assert sampler.memory(earlier, earlier) == 0
    assert sampler.memory(earlier, Counters(memory_peak=91)) == 72
    sampler.record_processes(80, 72)
    assert sampler.memory(earlier, earlier) == 80
