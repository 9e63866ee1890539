"""Programs of the host that tests need; in CI, scripts/test installs them and none is missing."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin"
"""Where a jail, and a daemon, would look for a program."""


WORLD = bool(os.environ.get("SANDBOXD_WORLD"))
"""This is scripts/test-world, which skips nothing for want of a program."""


def somewhere(program: str) -> bool:
    """Whether the host has `program` where sandboxed programs can see it."""
    return shutil.which(program, path=PATH) is not None


def missing(reason: str) -> NoReturn:
    """Skip a test for want of something that scripts/test installs; in CI this is a failure."""
    if os.environ.get("CI") == "true" or WORLD:
        pytest.fail(f"{reason}; scripts/test has to install what the tests need")
    pytest.skip(reason)


def elsewhere(reason: str) -> NoReturn:
    """Skip a test for want of something that not every host can have; scripts/test-world must."""
    if WORLD:
        pytest.fail(reason)
    pytest.skip(reason)
