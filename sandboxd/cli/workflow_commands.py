"""Workflow commands: lines such as `::set-env name=A::B` in the output of a step, which a CI system
of GitHub's form carries out.

Some systems let them set variables and directories of later steps on the host. So the output of a
program is between `::stop-commands::TOKEN` and `::TOKEN::`, and no command in it is carried out.
The program does not see this token.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

MARKS = (
    "GITHUB_ACTIONS", "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY",
    "GITHUB_STATE", "GITHUB_EVENT_PATH",
)  # fmt: skip
"""Variables of a system that reads workflow commands."""


def is_read(environ: Mapping[str, str]) -> bool:
    """A command with the environment `environ` belongs to a step of such a system."""
    return any(environ.get(name) for name in MARKS)


def is_shown(descriptor: int) -> bool:
    """Somebody reads what is written to the descriptor: it is no file, and not /dev/null."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:  # it is closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
