"""The requests of the official client are those for which the api's list of unserved keys is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ...api.test_unserved import RECORDED

RECORD = Path(__file__).with_name("record.py")


def test_recorded_requests_are_those_of_the_client(version: str, client_python: str) -> None:
    done = subprocess.run(
        [client_python, str(RECORD)], capture_output=True, text=True, timeout=200, check=True
    )
    assert json.loads(done.stdout) == RECORDED[version]
