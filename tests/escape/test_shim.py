"""The attacks of a program on its run's shim, which has the same uid: work, or no room."""

from __future__ import annotations

import errno
import resource
import selectors
from typing import Any

import pytest

from sandboxd.shim.console import FREE, LEAST, RATE

from ..sandbox import Sandbox

PACKETS = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT)
while True: os.write(1, b"x")
"""


def test_output_byte_by_byte_slows_down_its_writer(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is a packet, and a read of the shim. A program that only writes could keep the
    shim busier than itself, and no limit of the run counts the shim."""
    program = f"/usr/bin/python3 - <<'E'\n{PACKETS}\nE"
    held = sandbox.run(program, wall_s=3).verdict["usage"]["stdout_bytes"]
    bound = FREE // LEAST + 3 * RATE // LEAST  # reads in three seconds
    assert held < 1.3 * bound
    monkeypatch.setattr("sandboxd.shim.console.LEAST", 1)
    free = sandbox.run(program, wall_s=3).verdict["usage"]["stdout_bytes"]
    # An emulated machine is too slow for more, bound or not.
    assert free > 1.5 * held or held < 0.7 * bound, (free, held)


def test_run_goes_on_when_its_uid_has_no_watch_of_epoll_left(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program can use up the watches of its uid (epoll(7)), which the shim has as well."""

    def register(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(selectors.EpollSelector, "register", register)
    result = sandbox.run("read x; echo $x; head -c 70M /dev/zero >&2; exit 3", answers=["typed\n"])
    assert (result.exit, result.stdout) == (3, "typed\n")


IN_FLIGHT = """
import socket
while True:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for _ in range(5): socket.send_fds(a, [b"x"], [a.fileno(), b.fileno()] * 100)
"""


def test_descriptors_in_flight_of_one_step_do_not_hinder_the_next(sandbox: Sandbox) -> None:
    """They count for the uid, which is the shim's as well, until the kernel collects them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        for _ in range(4):
            build = f"/usr/bin/python3 - 2>&1 <<'E' | grep -q 'Too many'\n{IN_FLIGHT}\nE"
            result = sandbox.run("echo next", build=build)
            assert (result.stdout, result.events[1]["exit"]) == ("next\n", 0), result.last
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
