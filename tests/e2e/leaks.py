"""The helpers of the end-to-end tests of leaks.

The uids are not those of other end-to-end tests: a process that another daemon leaves for a moment
would be taken for a leak.
"""

from __future__ import annotations

import subprocess
from typing import Any

import httpx

FIRST = 660000
SLOTS = f"[slots]\nfirst_uid = {FIRST}\ncount = 64\n"
FREE = 60
"""A slot that no session of these tests gets."""

Report = dict[str, Any]


def look(root: httpx.Client) -> Report:
    answer = root.get("/admin/leaks")
    assert answer.status_code == 200, answer.text
    report: Report = answer.json()
    return report


def only(report: Report, kind: str) -> dict[str, Any]:
    (leak,) = report["leaks"]
    assert leak["kind"] == kind, leak
    return dict(leak)


def as_uid(number: int) -> subprocess.Popen[bytes]:
    """A process with the uid of a slot that nobody started."""
    uid = FIRST + number
    return subprocess.Popen(["/bin/sleep", "600"], user=uid, group=uid, extra_groups=[])
