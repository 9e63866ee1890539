"""The CI system that has called a command: its own environment, without that of the job.

A system sets a variable such as CI for the processes of its job, and does not have it itself. So it
is the nearest ancestor of this process without the variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

MARKS = ("CI", "JENKINS_URL")
"""Variables that systems set for each job."""

ANCESTORS = 16
"""Shells and other processes of a job between the system and the command, at most."""


def system_environment(environ: Mapping[str, str]) -> dict[str, str] | None:
    """The environment with which the system has begun, for a command with the environment
    `environ`; None: no system has called it, or this user may not read it."""
    mark = next((name for name in MARKS if environ.get(name)), None)
    pid = os.getppid()
    for _ in range(ANCESTORS if mark else 0):
        try:
            variables = _environment(pid)
            if mark not in variables:
                return variables
            pid = _parent(pid)
        except OSError:
            break
    return None


def _environment(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/environ", "rb") as file:
        texts = os.fsdecode(file.read()).split("\0")
    return dict(text.split("=", 1) for text in texts if "=" in text)


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
