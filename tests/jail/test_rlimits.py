"""The limits of a process, written out: a limit that is missing in the plan is noticed."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.jail import rlimits
from sandboxd.model import UNLIMITED


def test_every_limit_is_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (unlimited, unlimited))
    assert rlimits.plan(replace(STEP_LIMITS, nofile=99, fsize=1 << 20, pids=10)) == {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 1 << 20,
        resource.RLIMIT_NOFILE: 99,
        resource.RLIMIT_NPROC: 130,
        resource.RLIMIT_MEMLOCK: 8 << 20,
        resource.RLIMIT_MSGQUEUE: 800 << 10,
        resource.RLIMIT_SIGPENDING: 4096,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_STACK: 8 << 20,
    }


def test_unlimited_stack_has_the_limit_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(STEP_LIMITS, stack=UNLIMITED)
    for hard in (resource.RLIM_INFINITY, 1 << 30):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, hard=hard: (hard, hard))
        assert rlimits.plan(plan)[resource.RLIMIT_STACK] == hard


def test_hard_limit_of_the_stack_is_not_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilers raise the soft limit for themselves."""
    calls: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (8 << 20, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: calls.append((kind, pair)))
    rlimits.apply({resource.RLIMIT_STACK: 1 << 20, resource.RLIMIT_NOFILE: 99})
    unlimited = resource.RLIM_INFINITY
    assert calls == [
        (resource.RLIMIT_STACK, (1 << 20, unlimited)),
        (resource.RLIMIT_NOFILE, (99, 99)),
    ]


def test_hard_limit_of_the_host_that_is_lower_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (50, 50))
    assert rlimits.plan(replace(STEP_LIMITS, nofile=99))[resource.RLIMIT_NOFILE] == 50
