"""The fork of workers: a child keeps its own descriptors, and its parent's garbage closes none."""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Iterator

import pytest

from sandboxd.errors import StageError
from sandboxd.warden.fork import LastFork, fork
from sandboxd.warden.vitals import vitals


class _Ring:
    """Garbage that only the collector finds, with a descriptor."""

    def __init__(self) -> None:
        self.itself = self
        self.sock = socket.socket()


def test_garbage_of_the_parent_closes_no_descriptor_of_the_child() -> None:
    gc.collect()
    gc.disable()
    try:
        number = _Ring().sock.fileno()
        read, write = os.pipe()

        def child() -> None:
            os.dup2(write, number)  # the number is free here, and stands for another file now
            gc.collect()
            os.write(number, b"still open")
            os._exit(0)

        pid = fork([write], child)
        os.close(write)
        with open(read, "rb") as output:
            assert output.read() == b"still open"
        assert os.waitpid(pid, 0)[1] == 0
        with pytest.warns(ResourceWarning, match="unclosed"):
            gc.collect()
    finally:
        gc.enable()


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch) -> Iterator[LastFork]:
    """The outcome of the last fork, in place of the warden's own."""
    last = LastFork()
    monkeypatch.setattr("sandboxd.warden.fork.LAST", last)
    monkeypatch.setattr("sandboxd.warden.vitals.LAST", last)
    yield last


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOMEM])
def test_failing_fork_is_in_the_vitals_until_one_succeeds(
    last: LastFork, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse() -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", refuse)
        with pytest.raises(StageError, match="stage fork"):
            fork([], lambda: None)
        assert vitals()["fork_errno"] == code
        last.probe()
        assert vitals()["fork_errno"] == code, "the host has no room yet"
    last.probe()
    assert vitals()["fork_errno"] == 0
    assert os.wait()[1] == 0, "the child of the probe"


def test_success_of_any_fork_ends_the_failure(last: LastFork) -> None:
    last.errno = errno.EAGAIN
    pid = fork([], lambda: os._exit(0))
    os.waitpid(pid, 0)
    assert last.errno == 0


def test_probe_forks_nothing_while_forks_succeed(
    last: LastFork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a fork that nobody needs"))
    last.probe()
