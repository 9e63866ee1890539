"""A daemon with more descriptors than select(2) knows, as one with a thousand sessions has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from .daemon import running
from .waiting_jails import COLD, NONE, WARM, count

FILLED = [
    sys.executable, "-P", "-c",
    "import os, resource, sys\n"
    "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n"
    "for _ in range(1100): os.set_inheritable(os.open('/dev/null', os.O_RDONLY), True)\n"
    "os.execv(sys.argv[1], sys.argv[1:])",
]  # fmt: skip
"""A command that becomes the one behind it, with descriptors that it does not know."""


@pytest.mark.parametrize("runs", [WARM, COLD, NONE], ids=["warm", "cold", "none prepared"])
def test_daemon_with_more_than_1023_descriptors_runs_programs_and_ends_in_order(
    folder: Path, runs: str
) -> None:
    """It was killed by its first order, carried it out again as it started anew, and so on."""
    with running(folder, runs, FILLED) as daemon, daemon.client() as http:
        assert daemon.process
        highest = max(int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd"))
        assert highest > 1100
        http.post("/session", json={"image": "c", "name": "kept"})
        assert [count(http).text("stdout") for _ in range(3)] == ["1\n", "2\n", "3\n"]
        assert http.delete("/session/kept").status_code == 200
