"""The repair of strays: what is not what was judged is left alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandboxd.warden.leaks.repair import repair
from sandboxd.warden.leaks.rule import Leak
from sandboxd.warden.leaks.scan import status_of


def test_number_that_another_process_has_got_is_not_killed(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        try:
            status = status_of(other.pid)
            assert status
            start, _ = status
            stray = Leak("process", "of before", None, 0, (other.pid, start - 1, False))
            assert repair(stray, str(tmp_path)).done == "ended by itself"
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.3)
            judged = Leak("process", "itself", None, 0, (other.pid, start, False))
            assert repair(judged, str(tmp_path)).done == "killed"
        finally:
            other.kill()
