"""Programs of the host that tests need; in CI, scripts/test installs them and none is missing."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin"
"""Where a jail, and a daemon, would look for a program."""


def somewhere(program: str) -> bool:
    """Whether the host has `program` where sandboxed programs can see it."""
    return shutil.which(program, path=PATH) is not None


def missing(reason: str) -> NoReturn:
    """Skip a test for want of something that scripts/test installs; in CI this is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; in CI, scripts/test has to install what the tests need")
    pytest.skip(reason)
