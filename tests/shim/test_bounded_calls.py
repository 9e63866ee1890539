"""The bounds of calls that no cgroup counts: memberships of a run, open netlink sockets."""

from __future__ import annotations

import errno

import pytest

from sandboxd.jail import seccomp
from sandboxd.jail.uncounted_memory import FILE_LOCK, LARGE_ATTRIBUTE, MULTICAST, NETLINK
from sandboxd.shim import bounded_calls
from sandboxd.shim.bounded_calls import (
    ATTRIBUTES_MAX,
    JOINS_MAX,
    MEETING_PART,
    NETLINK_MAX,
    OFD_LOCKS_MAX,
    BoundedCalls,
)


def test_other_calls_have_no_bound() -> None:
    assert BoundedCalls(lambda: 0).error("socket") is None


@pytest.mark.parametrize(
    ("name", "most", "full"),
    [
        (MULTICAST, JOINS_MAX, errno.ENOBUFS),
        (FILE_LOCK, OFD_LOCKS_MAX, errno.ENOLCK),
        (LARGE_ATTRIBUTE, ATTRIBUTES_MAX, errno.ENOSPC),
    ],
)
def test_each_run_has_its_calls_and_fewer_when_others_can_keep_what_it_leaves(
    name: str, most: int, full: int
) -> None:
    calls = BoundedCalls(lambda: 0)
    for meets_others, part in ((False, 1), (True, MEETING_PART), (False, 1)):
        calls.begin(meets_others)
        assert {calls.error(name) for _ in range(most // part)} == {0}
        assert calls.error(name) == full


def test_program_that_closes_its_netlink_sockets_opens_as_many_as_it_likes() -> None:
    calls = BoundedCalls(lambda: 3)
    assert {calls.error(NETLINK) for _ in range(20 * NETLINK_MAX)} == {0}


def test_open_netlink_sockets_are_bounded_over_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_calls, "FREED_S", 0)
    opened: list[int] = []
    calls = BoundedCalls(lambda: len(opened))
    for number in range(NETLINK_MAX):
        assert calls.error(NETLINK) == 0
        opened.append(number)
    calls.begin(False)
    assert calls.error(NETLINK) == errno.ENOBUFS
    opened.clear()
    assert calls.error(NETLINK) == 0


def test_sockets_that_the_kernel_has_yet_to_free_are_awaited() -> None:
    counts = iter([NETLINK_MAX] * 3 + [0])
    calls = BoundedCalls(lambda: next(counts))
    assert {calls.error(NETLINK) for _ in range(NETLINK_MAX + 1)} == {0}


def test_runtime_that_has_no_sockets_is_refused_netlink_too() -> None:
    """A call that the operator takes away is refused, and not left to its bound."""
    names = seccomp.compile(refuse=("socket",)).refused.values()
    assert "socket" in names and NETLINK not in names and MULTICAST in names
    assert NETLINK in seccomp.compile().refused.values()
