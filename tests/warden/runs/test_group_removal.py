"""The removal of the cgroups of runs: their processes are killed, and no end is polled for."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from sandboxd.host import cgroupfs
from sandboxd.jail.cgroup import Group
from sandboxd.warden.runs import group_removal
from sandboxd.warden.runs.cgroups import Hierarchy
from sandboxd.warden.runs.group_removal import GroupRemovals, end_groups
from sandboxd.warden.runs.worker import Worker

from ...waiting import PATIENCE_S, until

pytestmark = pytest.mark.root


@pytest.fixture
def group() -> Iterator[Group]:
    hierarchy = Hierarchy.find(f"sandboxd-test-removal-{os.getpid()}")
    group = hierarchy.group("1.1")
    yield group
    assert not end_groups([group], PATIENCE_S)
    hierarchy.remove()


def member(group: Group, command: str) -> subprocess.Popen[bytes]:
    """A process in the group."""

    def join() -> None:
        for directory in group.dirs.values():
            cgroupfs.join(directory)

    return subprocess.Popen(["/bin/sh", "-c", command], preexec_fn=join)


def test_group_with_processes_is_ended_and_removed(group: Group) -> None:
    # A shell that waits for its children would end by itself: they may be killed before it (v1).
    with member(group, "sleep 60 & sleep 60 & while :; do :; done") as process:
        until(lambda: len(group.members()) == 3)
        assert end_groups([group], PATIENCE_S) == []
        assert process.wait() == -signal.SIGKILL
    assert not any(Path(path).exists() for path in group.dirs.values())


def test_group_that_cannot_be_ended_is_named_after_the_wait(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Group, "kill", lambda _: None)
    with member(group, "sleep 60") as process:
        assert end_groups([group], 0.05) == [group]
        process.kill()


def test_loop_waits_for_the_end_of_a_process_and_does_not_poll(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    selector, gone = selectors.DefaultSelector(), list[Worker]()
    removals = GroupRemovals(selector, lambda _: True, gone.append)
    with monkeypatch.context() as patch, member(group, "sleep 60") as process:
        patch.setattr(Group, "kill", lambda _: None)  # as of a process that takes long to end
        removals.add(Worker(process.pid, group=group))
        removals.go_on()
        assert removals.due_in() is None, "a timer would poll"
        assert [one.group for one in removals.workers] == [group]
        process.kill()
    while removals.workers:
        ready = selector.select(PATIENCE_S if removals.due_in() is None else removals.due_in())
        assert ready or removals.due_in() is not None, "no end was seen"
        for key, _ in ready:
            key.data()
        removals.go_on()
    assert [one.group for one in gone] == [group] and not selector.get_map()


def test_group_whose_memory_another_run_holds_stays(group: Group) -> None:
    removals = GroupRemovals(selectors.DefaultSelector(), lambda _: False, mock.Mock())
    removals.add(Worker(0, group=group))
    removals.go_on()
    assert removals.workers and removals.due_in() is not None
    assert all(Path(path).exists() for path in group.dirs.values())


def test_pause_between_tries_grows_to_a_bound(group: Group) -> None:
    """As for a group that a program of another daemon has joined from outside."""
    removals = GroupRemovals(selectors.DefaultSelector(), lambda _: False, mock.Mock())
    removals.add(Worker(0, group=group))
    pauses = []
    for _ in range(12):
        removals.go_on(every=True)
        pauses.append(removals._removals[0].pause_s)
    assert pauses == sorted(pauses) and pauses[-1] == group_removal.PAUSE_MAX_S
