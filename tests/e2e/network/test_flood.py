"""Ten thousand connections of hostile runs to the broker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from ...broker.flood import OF_OWNER, OF_SESSION

pytestmark = pytest.mark.needs("ip", "unshare")

COUNT = 10_000
MEMORY = 32 << 20
LIMIT_S = 600


@pytest.mark.parametrize(("runs", "served"), [(1, OF_SESSION), (40, OF_OWNER)])
def test_ten_thousand_connections_are_refused_beyond_the_bound_and_others_go_on(
    runs: int, served: int
) -> None:
    command = f"ip link set lo up; exec {sys.executable} -m tests.broker.flood {COUNT} {runs}"
    flood = ["unshare", "-n", "sh", "-c", command]
    with subprocess.Popen(flood, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            out, _ = process.communicate(timeout=LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    result = json.loads(out)
    assert result["turned_away"] == result["outcomes"]["too-many"] == COUNT - served
    assert served <= result["most"] <= served + 1  # and the one of the other session
    assert result["answers"] == result["requests"] > 0
    assert result["memory"] < MEMORY
