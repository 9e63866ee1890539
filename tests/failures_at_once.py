"""A plugin of pytest that prints each failure when it happens.

A virtual machine that reaches its limit of time (`scripts/vm`) never prints the summary.
"""

from __future__ import annotations

import os
import sys

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failed test, its traceback, and the output that pytest has captured."""
    if not report.failed or "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that distributes the tests has the report of a worker, too
    sections = "".join(f"\n--- {title}\n{text}" for title, text in report.sections)
    text = f"\n== {report.nodeid} ({report.when})\n{report.longreprtext}{sections}"
    print(text, file=sys.__stderr__, flush=True)
