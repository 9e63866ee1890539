"""Tests of the plugin that prints failures at once: once each, with what the test has printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
TESTS = """
def test_good():
    print("nothing of this")

def test_bad():
    print("a clue")
    assert 2 + 2 == 5
"""


@pytest.mark.parametrize(
    "parallel", [(), ("-p", "xdist.plugin", "-n", "1")], ids=["one process", "a worker"]
)
def test_failure_is_printed_once_and_before_the_summary(
    tmp_path: Path, parallel: tuple[str, ...]
) -> None:
    (tmp_path / "test_two.py").write_text(TESTS)
    outer = {name for name in os.environ if "XDIST" in name}
    variables = {name: os.environ[name] for name in os.environ.keys() - outer}
    variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # their import is most of the time
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.failures_at_once", "-p", "no:cacheprovider",
         "--rootdir", str(tmp_path), "--no-summary", *parallel, str(tmp_path)],
        cwd=CHECKOUT, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.count("== test_two.py::test_bad (call)") == 1
    assert done.stdout.count("a clue") == 2, "as source and as output"
    assert "assert (2 + 2) == 5" in done.stdout
    assert "nothing of this" not in done.stdout
