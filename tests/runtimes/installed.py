"""The runtimes whose tools scripts/packages installs for the test suite, and not only for
scripts/test-world."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import pytest

from sandboxd.runtimes import ADDITIONAL

from ..needs import elsewhere, missing

WITH_TESTS = frozenset({"cobol", "pascal", "r", "scheme-chicken", "sql", "tcl"})
"""Further languages, most of which have files outside /usr."""


def marked(names: Iterable[str]) -> list[Any]:
    """The names as parameters of a test: of the further languages only those of WITH_TESTS are
    tried outside scripts/test-world."""
    further = ADDITIONAL - WITH_TESTS
    return [pytest.param(name, marks=[pytest.mark.world] * (name in further)) for name in names]


def not_available(name: str, reason: str) -> NoReturn:
    """Skip a test for want of the runtime `name`, or fail where it must be there."""
    if name in ADDITIONAL - WITH_TESTS:
        elsewhere(reason)
    missing(reason)
