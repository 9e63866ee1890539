"""The runtimes whose tools scripts/packages installs for the test suite, and not only for
scripts/test-world."""

from __future__ import annotations

from typing import NoReturn

from sandboxd.runtimes import ADDITIONAL

from ..needs import elsewhere, missing

WITH_TESTS = frozenset({"cobol", "pascal", "r", "scheme-chicken", "sql", "tcl"})
"""Further languages, most of which have files outside /usr."""


def not_available(name: str, reason: str) -> NoReturn:
    """Skip a test for want of the runtime `name`, or fail where it must be there."""
    if name in ADDITIONAL - WITH_TESTS:
        elsewhere(reason)
    missing(reason)
