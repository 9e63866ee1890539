"""The group above a slot's runs: its bounds, and what a session could have without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.host.cgroupfs import GroupFiles
from sandboxd.jail.cgroup import PERIOD_US, Group
from sandboxd.model import MIB
from sandboxd.warden.runs import cpu_hold, slot_group
from sandboxd.warden.runs.cgroups import Hierarchy
from sandboxd.warden.runs.cpu_hold import CpuHolds
from sandboxd.warden.slots.slots import RunShare, Slot
from sandboxd.warden.uid_lease import UidLease

from ...waiting import PATIENCE_S

pytestmark = pytest.mark.root

LIMIT = 64 * MIB
PROGRAM = """
import sys
directories, size = sys.argv[2:], int(sys.argv[1])
for directory in directories:
    with open(f"{directory}/cgroup.procs", "w") as file:
        file.write("0")
memory = bytearray(size)
print("has it", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hierarchy() -> Iterator[Hierarchy]:
    tree = Hierarchy.find(f"sandboxd-test-{os.getpid()}-slots")
    yield tree
    for group in tree.groups():
        group.kill()
        assert group.remove()
    tree.remove()


@pytest.fixture
def slot() -> Slot:
    return Slot(7, 1000007, "/nowhere", "session", UidLease(1000007, -1))


def begin(
    hierarchy: Hierarchy, slot: Slot, run: int, terminal: bool = False, **limits: float
) -> Group:
    """A run of the slot with these limits, as far as its groups go."""
    group = hierarchy.run_group(slot.number, run)
    wanted = replace(STEP_LIMITS, **{"memory": LIMIT} | limits)  # type: ignore[arg-type]  # numbers
    slot_group.join(hierarchy, slot, run, RunShare(wanted, group, terminal))
    slot.runs[run] = 1
    group.open()
    group.limit(wanted)
    group.close()
    return group


def end(hierarchy: Hierarchy, slot: Slot, run: int) -> None:
    """The run is over, and its group is gone."""
    share = slot.shares[run]
    del slot.runs[run]
    share.group.kill()
    assert share.group.remove()
    slot_group.leave(hierarchy, slot, run)


def bound(hierarchy: Hierarchy, slot: Slot) -> int:
    return GroupFiles(hierarchy.slot_dirs(slot.number)).memory_limit()


@contextmanager
def program(group: Group, size: int) -> Iterator[subprocess.Popen[str]]:
    """A program in the group that takes `size` bytes."""
    with subprocess.Popen(
        [sys.executable, "-I", "-c", PROGRAM, str(size), *group.dirs.values()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def kills(group: Group) -> int:
    return group.files.oom_kills()


def five_programs(hierarchy: Hierarchy, slot: Slot) -> int:
    """A run and four terminals take memory, each less than its limit; how many of them have it at
    the same time. Each of the others is counted in the group of its own run."""
    groups = [begin(hierarchy, slot, run, terminal=run > 0) for run in range(5)]
    with ExitStack() as stack:
        processes = [stack.enter_context(program(group, 45 * MIB)) for group in groups]
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        # A process that is killed closes its end of the pipe before it can be waited for.
        living = [kills(group) == 0 for group in groups]
        for group, process, lives in zip(groups, processes, living, strict=True):
            assert process.stdin
            process.stdin.close()
            assert process.wait(PATIENCE_S) == (0 if lives else -9)
            assert kills(group) == (not lives), "the group of a run counts its own process"
    for run in range(5):
        end(hierarchy, slot, run)
    return sum(living)


def test_five_runs_of_a_session_cannot_each_have_its_memory_limit(
    hierarchy: Hierarchy, slot: Slot
) -> None:
    assert 1 <= five_programs(hierarchy, slot) <= 3


def test_five_runs_would_each_have_the_memory_limit_without_a_bound_of_their_sum(
    hierarchy: Hierarchy, slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_group, "_bound", lambda *_: None)
    assert five_programs(hierarchy, slot) == 5


def test_bound_is_the_highest_limit_and_room_for_each_run(hierarchy: Hierarchy, slot: Slot) -> None:
    own = slot_group.OWN_MEMORY
    begin(hierarchy, slot, 1, cpus=0.5)
    assert bound(hierarchy, slot) == LIMIT + own
    begin(hierarchy, slot, 2, terminal=True, memory=3 * LIMIT, cpus=2)
    assert bound(hierarchy, slot) == 3 * LIMIT + 2 * own
    begin(hierarchy, slot, 3, terminal=True, memory=2 * LIMIT)
    assert bound(hierarchy, slot) == 3 * LIMIT + 3 * own
    files = GroupFiles(hierarchy.slot_dirs(slot.number))
    assert files.cpu_quota_us() == 2 * PERIOD_US
    end(hierarchy, slot, 2)
    assert bound(hierarchy, slot) == 2 * LIMIT + 2 * own
    end(hierarchy, slot, 3)
    end(hierarchy, slot, 1)
    assert slot.shares == {}


def test_bound_is_not_lowered_below_the_memory_in_use(hierarchy: Hierarchy, slot: Slot) -> None:
    group = begin(hierarchy, slot, 1, memory=2 * LIMIT)
    with program(group, 100 * MIB) as process:
        assert process.stdout and process.stdout.readline() == "has it\n"
        before = bound(hierarchy, slot)
        slot.shares[1] = replace(slot.shares[1], limits=replace(STEP_LIMITS, memory=LIMIT))
        begin(hierarchy, slot, 2, terminal=True)
        assert bound(hierarchy, slot) == before
        assert process.poll() is None
    end(hierarchy, slot, 2)
    assert bound(hierarchy, slot) == LIMIT + slot_group.OWN_MEMORY
    end(hierarchy, slot, 1)


def test_bound_is_not_lowered_beside_a_run_whose_limits_only_an_earlier_daemon_knew(
    hierarchy: Hierarchy, slot: Slot
) -> None:
    begin(hierarchy, slot, 1, memory=4 * LIMIT)
    adopted = slot.shares.pop(1)
    begin(hierarchy, slot, 2, terminal=True)
    assert bound(hierarchy, slot) == 4 * LIMIT + slot_group.OWN_MEMORY
    begin(hierarchy, slot, 3, terminal=True, memory=5 * LIMIT)
    assert bound(hierarchy, slot) == 5 * LIMIT + 2 * slot_group.OWN_MEMORY
    slot.shares[1] = adopted
    for run in (1, 2, 3):
        end(hierarchy, slot, run)


def test_memory_of_a_run_that_is_over_is_no_loss_of_the_next_one(
    hierarchy: Hierarchy, slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = 20 * MIB
    monkeypatch.setattr(Group, "shared_memory", lambda group: held if group.name == "7.1" else 0)
    begin(hierarchy, slot, 1)
    begin(hierarchy, slot, 9, terminal=True)
    own = slot_group.OWN_MEMORY
    assert bound(hierarchy, slot) == LIMIT + 2 * own, "the run goes on"
    begin(hierarchy, slot, 2)
    assert bound(hierarchy, slot) == LIMIT + 3 * own + held
    end(hierarchy, slot, 1)
    assert bound(hierarchy, slot) == LIMIT + 2 * own
    monkeypatch.setattr(Group, "shared_memory", lambda group: 99 * LIMIT)
    begin(hierarchy, slot, 3)
    assert bound(hierarchy, slot) == 2 * LIMIT + 3 * own, "one limit more, and no more"
    for run in (2, 3, 9):
        end(hierarchy, slot, run)


def test_group_of_a_slot_outlives_its_runs_until_it_is_idle(
    hierarchy: Hierarchy, slot: Slot
) -> None:
    begin(hierarchy, slot, 1)
    begin(hierarchy, slot, 2, terminal=True)
    hierarchy.remove_idle()
    hierarchy.remove_slot(slot.number)
    assert [group.name for group in hierarchy.groups()] == ["7.1", "7.2"]
    end(hierarchy, slot, 1)
    end(hierarchy, slot, 2)
    assert [group.name for group in hierarchy.groups()] == ["slot-7"]
    hierarchy.remove_idle()
    assert hierarchy.groups() == []


def test_group_of_a_run_of_an_earlier_version_is_found_beside_those_of_slots(
    hierarchy: Hierarchy, slot: Slot
) -> None:
    earlier = hierarchy.group("7.1")
    begin(hierarchy, slot, 2)
    assert [group.name for group in hierarchy.groups()] == ["7.1", "7.2"]
    with program(earlier, MIB) as process:
        assert process.stdout and process.stdout.readline() == "has it\n"
        earlier.kill()
        assert process.wait() == -9
    assert earlier.remove()
    hierarchy.tidy(earlier)
    end(hierarchy, slot, 2)


def test_run_that_is_held_has_hardly_any_cpu_time_and_its_limit_afterwards(
    hierarchy: Hierarchy, slot: Slot
) -> None:
    group = begin(hierarchy, slot, 1, cpus=2)
    holds = CpuHolds()
    holds.begin(group)
    assert group.files.cpu_quota_us() == PERIOD_US // 100
    holds.end(group)
    assert group.files.cpu_quota_us() == 2 * PERIOD_US
    holds.begin(group)
    cpu_hold.end_left(group)
    assert group.files.cpu_quota_us() == 2 * PERIOD_US
    end(hierarchy, slot, 1)


def test_hold_that_begins_while_the_limits_of_a_step_are_set_does_not_stop_the_run(
    hierarchy: Hierarchy, slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = begin(hierarchy, slot, 1, cpus=2)
    group.open()
    write, held, holds = GroupFiles.write, list[Group](), CpuHolds()

    def hold_after(files: GroupFiles, name: str, value: str) -> None:
        write(files, name, value)
        if name in ("cpu.max", "cpu.cfs_quota_us") and not held:
            monkeypatch.setattr(GroupFiles, "write", write)
            held.append(Group(group.dirs))
            holds.begin(held[0])

    monkeypatch.setattr(GroupFiles, "write", hold_after)
    group.limit(replace(STEP_LIMITS, memory=LIMIT, cpus=1))
    holds.end(held[0])
    assert group.files.cpu_quota_us() == PERIOD_US
    group.close()
    end(hierarchy, slot, 1)
