"""The limits of a process, written out: a limit that is missing in the plan is noticed."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest

from sandboxd.config import STEP_LIMITS
from sandboxd.jail import rlimits


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
    }


def test_hard_limit_of_the_host_that_is_lower_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (50, 50))
    assert rlimits.plan(replace(STEP_LIMITS, nofile=99))[resource.RLIMIT_NOFILE] == 50
