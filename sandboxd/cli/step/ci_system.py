"""The CI system that has called a command: its own environment, without that of the job.

A system sets a variable such as CI for the processes of its job, and does not have it itself. So it
is the nearest ancestor of this process without the variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..ancestors import ANCESTORS, environment_of, parent_of

MARKS = ("CI", "JENKINS_URL")
"""Variables that systems set for each job."""


def system_environment(environ: Mapping[str, str]) -> dict[str, str] | None:
    """The environment with which the system has begun, for a command with the environment
    `environ`; None: no system has called it, or this user may not read it."""
    mark = next((name for name in MARKS if environ.get(name)), None)
    pid = os.getppid()
    for _ in range(ANCESTORS if mark else 0):
        try:
            variables = environment_of(pid)
            if mark not in variables:
                return variables
            pid = parent_of(pid)
        except OSError:
            break
    return None
