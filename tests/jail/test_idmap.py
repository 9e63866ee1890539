"""The user namespaces of idmapped mounts, on a host that has nothing left for one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from sandboxd.errors import StageError
from sandboxd.jail import idmap
from sandboxd.jail.idmap import Ids

from ..each_case import each_case


def second_pipe_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe2, calls = os.pipe2, list[int]()

    def refused(flags: int) -> tuple[int, int]:
        calls.append(flags)
        if len(calls) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return pipe2(flags)

    monkeypatch.setattr(os, "pipe2", refused)


def fork_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> NoReturn:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)


LACKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "descriptors": second_pipe_refused, "processes": fork_refused,
}  # fmt: skip


@each_case("lack", LACKS)
def test_namespace_that_the_host_has_no_room_for_leaves_no_descriptor_open(lack: str) -> None:
    """A host that lacks descriptors for a moment would lack them for good."""
    before = set(os.listdir("/proc/self/fd"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        LACKS[lack](monkeypatch)
        with pytest.raises(StageError):
            idmap.user_namespace(Ids(1, 1), Ids(2, 2))
    assert set(os.listdir("/proc/self/fd")) == before
