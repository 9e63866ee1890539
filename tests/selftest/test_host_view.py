"""The host's view of the self-test: it notices what attacks do to canaries, and what they leave."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from sandboxd.errors import Unavailable
from sandboxd.selftest import host_view
from sandboxd.selftest.runner import PYTHON
from sandboxd.warden.runs.worker import Worker

from ..sandbox import BareWarden, lease


@pytest.fixture
def canaries() -> Iterator[host_view.Canaries]:
    with contextlib.ExitStack() as stack:
        yield host_view.Canaries(stack)


def test_footprint_of_a_session_is_seen_while_it_lives_and_gone_with_it(
    warden: BareWarden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_view, "GONE_S", 0.5)  # of a session that is still there
    sandbox = lease(warden)
    footprints: set[host_view.Footprint] = set()

    def look(_: Worker) -> None:
        """While the program waits, all of it is there."""
        prints = [host_view.footprint(pid) for pid in host_view.find("token-left")]
        footprints.update(one for one in prints if one and one.uid == sandbox.slot.uid)
        (footprint,) = footprints
        remains = " ".join(host_view.remains(footprint))
        for what in ("process", "the cgroup", "a mount of its scratch", "the loop device"):
            assert what in remains

    program = "import sys  # token-left\nsys.stdin.readline()"
    sandbox.run(f'{PYTHON} -I -c "{program}"', answers=[None], on_wait=look)
    warden.free(sandbox.slot)
    monkeypatch.undo()
    (footprint,) = footprints
    assert host_view.remains(footprint) == []


@pytest.mark.parametrize("what", ["namespaces", "identity"])
def test_look_at_a_process_that_has_ended_is_unclear(what: str) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(Unavailable, match="ended before the host looked"):
        host_view.look(what, pid)


def test_canaries_report_each_attack_on_them_once(canaries: host_view.Canaries) -> None:
    assert list(canaries.touched()) == []
    canary = canaries.canary
    with open(canary.path, "w") as file:
        file.write("x")
    socket.create_connection(("127.0.0.1", canary.tcp)).close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"x", ("127.0.0.1", canary.udp))
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect("\0" + canary.abstract)
    os.kill(canary.pid, signal.SIGKILL)
    os.waitid(os.P_PID, canary.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not collected
    assert len(list(canaries.touched())) == 5
    assert list(canaries.touched()) == []
