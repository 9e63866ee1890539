"""The repair of leaks: a resource that is not the one that was judged is left alone."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from sandboxd.warden.leaks.repair import repair
from sandboxd.warden.leaks.rule import Leak
from sandboxd.warden.slots.host_resources import status_of


def test_process_that_has_got_the_pid_of_a_leak_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    real = signal.pidfd_send_signal

    def send(process: int, number: int) -> None:
        killed.append(number)
        real(process, number)

    monkeypatch.setattr(signal, "pidfd_send_signal", send)
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        try:
            status = status_of(other.pid)
            assert status
            start, _ = status
            earlier = Leak("process", "of before", None, 0, (other.pid, start - 1, False))
            assert repair(earlier, str(tmp_path)).done == "ended by itself"
            assert killed == []
            judged = Leak("process", "itself", None, 0, (other.pid, start, False))
            assert repair(judged, str(tmp_path)).done == "killed"
            assert killed == [signal.SIGKILL]
        finally:
            other.kill()
