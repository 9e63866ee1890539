"""The acknowledgement of an order: it counts where descriptors are many or short, and a run that is
refused does not go on."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
from collections.abc import Iterator
from typing import Any, cast

import pytest

from sandboxd.jail.cgroup import Group
from sandboxd.shim.run_spec import ORDER
from sandboxd.warden.runs import jail_entry
from sandboxd.warden.runs.entries import Entries
from sandboxd.warden.runs.jail_entry import JailEntry, Shim, Tenancy
from sandboxd.warden.slots.slots import Slot
from sandboxd.warden.uid_lease import UidLease
from sandboxd.wire import messages

from ...waiting import until

SELECT_MAX = 1024
"""Descriptors that select(2) knows: FD_SETSIZE."""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """A process with so many descriptors that a new one has a number above SELECT_MAX."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(SELECT_MAX)]
    yield
    messages.close_all(opened)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def children() -> Iterator[list[int]]:
    """The pids of the children of a test; those that it has not collected are killed."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def acknowledge(entry: JailEntry, kind: str = "claimed") -> None:
    """Send a message as the shim of the entry, which is this process."""
    pidfd = os.pidfd_open(os.getpid())
    messages.send(entry.end, {kind: os.getpid()}, [pidfd])
    os.close(pidfd)


@pytest.mark.usefixtures("many_descriptors")
def test_acknowledgement_is_heard_by_a_warden_with_more_descriptors_than_select_knows() -> None:
    entry = JailEntry()
    assert entry.sock.fileno() > SELECT_MAX
    entry.order({}, [])
    acknowledge(entry)
    shim = entry.acknowledged()
    assert shim and shim.pid == os.getpid() and shim.pidfd is not None
    os.close(shim.pidfd)
    entry.drop()


@pytest.mark.usefixtures("many_descriptors")
def test_prepared_entry_is_ended_by_a_warden_with_more_descriptors_than_select_knows(
    children: list[int],
) -> None:
    entry = JailEntry()
    child = os.fork()
    if child == 0:
        entry.sock.close()
        with contextlib.suppress(BaseException):
            acknowledge(entry, "prepared")
            messages.receive(entry.end)
        os._exit(0)
    children.append(child)
    entry.end.close()
    while entry.state != "prepared":
        assert entry.receive()
    entry.finish()
    assert os.waitpid(child, os.WNOHANG) == (child, 0), "it has ended before"


def test_acknowledgement_counts_where_no_descriptor_is_free_for_its_pidfd() -> None:
    """If it counted as silence, another entry would carry the order out once more."""
    entry = JailEntry()
    acknowledge(entry, "prepared")
    assert entry.receive() and entry.state == "prepared"
    entry.order({}, [])
    acknowledge(entry)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        shim = entry.acknowledged()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert shim and shim.pid == os.getpid() and shim.pidfd is not None
    os.close(shim.pidfd)
    entry.drop()


class _Order:
    """An order without a run."""

    slot = run = 1
    stays = True

    def order(self) -> tuple[dict[str, Any], list[int]]:
        return {}, []


class _OneEntry(Entries):
    """Entries of which one acknowledges its order; then something unexpected happens."""

    child = 0

    def _candidates(self, _: object) -> Iterator[JailEntry]:
        entry = JailEntry()
        self.child = os.fork()
        if self.child == 0:
            with contextlib.suppress(BaseException):
                entry.sock.close()
                messages.receive(entry.end, ORDER)
                acknowledge(entry)
                signal.pause()
            os._exit(0)
        entry.end.close()
        yield entry

    def _keep(self, entry: JailEntry, tenancy: Tenancy, stays: bool) -> None:
        raise ValueError("a bug")


def test_run_whose_start_fails_after_the_acknowledgement_does_not_go_on(
    children: list[int],
) -> None:
    slot = Slot(1, 1, "/nowhere", "session", UidLease(1, -1))
    tenancy = Tenancy(slot, Group({}), None, "c", ())
    with selectors.DefaultSelector() as selector:
        entries = _OneEntry(selector, cast(Any, None), lambda *_: None, lambda _: None)
        with pytest.raises(ValueError, match="a bug"):
            entries.begin(cast(Any, _Order()), tenancy, cast(Any, None))
    children.append(entries.child)
    _, status = os.waitpid(entries.child, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def _collected(pid: int) -> tuple[int, int] | None:
    ended = os.waitpid(pid, os.WNOHANG)
    return ended if ended[0] else None


@pytest.mark.parametrize("has_pidfd", [False, True])
def test_silent_warm_entry_keeps_nothing_of_an_order_that_it_has_not_taken(
    children: list[int], monkeypatch: pytest.MonkeyPatch, has_pidfd: bool
) -> None:
    monkeypatch.setattr(jail_entry, "ACK_S", 0.0)
    entry, (reader, writer) = JailEntry(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        entry.sock.close()
        signal.pause()
        os._exit(0)
    children.append(pid)
    entry.end.close()
    pidfd = os.pidfd_open(pid) if has_pidfd else None
    entry.state, entry.shim = "warm", Shim(pid, pidfd)
    entry.order({}, [writer])
    os.close(writer)
    assert entry.acknowledged() is None
    _, status = until(lambda: _collected(pid))
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert os.read(reader, 1) == b"", "the order is still open"
    os.close(reader)
    if pidfd is not None:  # it was its worker's
        os.close(pidfd)


def test_child_of_the_warden_is_killed_before_its_order_goes_to_another_entry(
    children: list[int],
) -> None:
    entry = JailEntry()
    entry.child = os.fork()
    if entry.child == 0:
        with contextlib.suppress(BaseException):
            entry.sock.close()
            messages.receive(entry.end, ORDER)
            messages.send(entry.end, {"nonsense": 1})
            signal.pause()
        os._exit(0)
    children.append(entry.child)
    entry.end.close()
    entry.order({}, [])
    assert entry.acknowledged() is None
    _, status = os.waitpid(entry.child, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert entry.shim is None or entry.shim == Shim(entry.child)
