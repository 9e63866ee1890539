"""Job processes: jobs as data, in processes that stay, and the ends of these processes."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.warden import job_process
from sandboxd.warden.job_process import Job, JobProcesses, JobSpec

from ..waiting import until

LONG_S = 60.0


def pid_and(number: int) -> list[int]:
    return [os.getpid(), number]


def fail(number: int) -> list[int]:
    raise ValueError(number)


def too_long() -> str:
    return "x" * (1 << 20)


class Host:
    """A loop with job processes, and the results of their jobs in the order of their ends."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.processes = JobProcesses(self.selector, (pid_and, fail, too_long, read_one))
        self.results: list[Any] = []

    def give(self, work: Any, *keep: int, patience_s: float = LONG_S) -> bool:
        return self.processes.take(Job("work", work, self.results.append, keep), patience_s)

    def step(self) -> bool:
        """Serve what is there: results, and ends of children. False, for conditions."""
        for key, _ in self.selector.select(0.01):
            key.data()
        for pid in self.pids:  # others are of the warden of this pytest, whose fixture lives
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                assert self.processes.collected(pid, status)
        return False

    def get(self, count: int) -> list[Any]:
        def there() -> bool:
            self.step()
            return len(self.results) >= count

        until(there)
        return self.results

    @property
    def pids(self) -> list[int]:
        return list(self.processes._processes)


def read_one(number: int) -> list[int]:
    """Read a byte from the descriptor that came with the job, the first one of this process."""
    fd = max(int(name) for name in os.listdir("/proc/self/fd") if _is_pipe(int(name)))
    return [os.getpid(), number, len(os.read(fd, 1))]


def _is_pipe(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    except OSError:
        return False


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    for pid in host.pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: host.step() or not host.processes.live)
    host.selector.close()


def job(number: int) -> JobSpec:
    return JobSpec(pid_and, {"number": number})


def test_jobs_one_after_the_other_have_one_process(host: Host) -> None:
    for number in range(3):
        assert host.give(job(number))
        host.get(number + 1)
    assert [number for _, number in host.results] == [0, 1, 2]
    assert {pid for pid, _ in host.results} == set(host.pids) and host.processes.jobs == 0


def test_job_that_is_no_data_is_not_taken(host: Host) -> None:
    assert not host.give(lambda: 1) and not host.processes.live


def test_job_that_fails_or_has_no_reply_ends_no_other(host: Host) -> None:
    for work in (JobSpec(fail, {"number": 1}), JobSpec(too_long, {}), job(2)):
        assert host.give(work)
        host.get(len(host.results) + 1)
    assert host.results[:2] == [None, None] and host.results[2] == [host.pids[0], 2]


def test_process_closes_the_descriptors_of_a_job_that_is_done(host: Host) -> None:
    inner, outer = os.pipe()
    assert host.give(job(1), outer)
    os.close(outer)
    host.get(1)
    assert os.read(inner, 1) == b""
    os.close(inner)


def test_jobs_at_a_time_have_processes_of_their_own_up_to_a_bound(host: Host) -> None:
    pipes = [os.pipe() for _ in range(job_process.MOST)]
    for number, (inner, _) in enumerate(pipes):
        assert host.give(JobSpec(read_one, {"number": number}), inner)
    assert host.give(job(9)), "it waits behind one of the others"
    assert len(host.pids) == job_process.MOST and host.processes.jobs == job_process.MOST + 1
    assert not host.give(job(10), patience_s=0.0), "nobody waits for a process that hangs"
    for inner, outer in pipes:
        os.close(outer)
        os.close(inner)
    host.get(job_process.MOST + 1)
    assert {pid for pid, *_ in host.results} == set(host.pids)


def test_jobs_of_a_killed_process_fail_when_it_has_ended(host: Host) -> None:
    inner, outer = os.pipe()
    assert host.give(JobSpec(read_one, {"number": 1}), inner)
    (pid,) = host.pids
    os.kill(pid, signal.SIGSTOP)
    for key, _ in host.selector.select(0.0):
        key.data()
    assert host.results == [] and host.processes.jobs == 1
    os.kill(pid, signal.SIGKILL)
    assert host.get(1) == [None] and host.pids == []
    assert host.give(job(2)) and host.get(2)[1] == [host.pids[0], 2]
    os.close(inner)
    os.close(outer)


def test_results_that_a_process_has_sent_before_its_end_count(host: Host) -> None:
    assert host.give(job(1))
    (pid,) = host.pids
    until(lambda: bool(host.selector.select(0.0)))
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    ended, status = os.waitpid(pid, 0)
    assert host.processes.collected(ended, status) and host.results == [[pid, 1]]


def test_retired_process_does_its_jobs_and_ends(host: Host) -> None:
    inner, outer = os.pipe()
    assert host.give(JobSpec(read_one, {"number": 1}), inner)
    (pid,) = host.pids
    host.processes.retire()
    assert host.give(job(2)), "another one follows"
    os.close(outer)
    os.close(inner)
    host.get(2)
    until(lambda: host.step() or pid not in host.pids)
    assert [pid, 1, 0] in host.results and len(host.pids) == 1


def test_process_without_a_job_for_a_while_ends(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host.give(job(1)) and host.processes.due_in() is None
    host.get(1)
    left_s = host.processes.due_in()
    assert left_s is not None and 0 < left_s <= job_process.IDLE_S
    host.processes.maintain()
    assert host.processes.live and host.processes.due_in() is not None
    monkeypatch.setattr(job_process, "IDLE_S", 0.0)
    host.processes.maintain()
    assert host.processes.due_in() is None
    until(lambda: host.step() or not host.processes.live)


def test_process_dies_with_its_warden() -> None:
    inner, outer = os.pipe()
    stopped, go_on = os.pipe()
    warden = os.fork()
    if warden == 0:
        host = Host()
        host.give(JobSpec(read_one, {"number": 1}), stopped, outer)
        os.write(outer, b"%d" % host.pids[0])
        signal.pause()
        os._exit(0)
    os.close(outer)
    assert int(os.read(inner, 20))
    os.kill(warden, signal.SIGKILL)
    os.waitpid(warden, 0)
    assert os.read(inner, 1) == b"", "the process has closed the last end"
    for fd in (inner, stopped, go_on):
        os.close(fd)
