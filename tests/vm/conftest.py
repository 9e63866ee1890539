"""The journal of the machine after a test that failed: nothing else of the machine stays."""

from __future__ import annotations

import subprocess
from collections.abc import Generator

import pytest

COMMANDS = (
    "journalctl --quiet --no-pager --boot --lines 300 --unit 'sandboxd*'",
    "journalctl --quiet --no-pager --boot --dmesg --lines 20 --grep 'segfault|protection|oom'",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the journal of the service, and what the kernel says of faults, beside the failure."""
    report = yield
    if report.when == "call" and report.failed:
        for command in COMMANDS:
            done = subprocess.run(command, shell=True, capture_output=True, text=True)
            report.sections.append((command, done.stdout))
    return report
