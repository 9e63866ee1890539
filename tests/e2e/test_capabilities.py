"""The capabilities that the unit leaves the daemon are enough for it, and none is too many."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .daemon import ROOT

UNIT = (ROOT / "systemd" / "sandboxd.service").read_text()
(LINE,) = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT, re.MULTILINE)
CAPABILITIES = [name.removeprefix("CAP_").lower() for name in LINE.split()]


def run(folder: Path, capabilities: list[str]) -> subprocess.CompletedProcess[str]:
    """`sandboxd run`, with a private daemon, of a program that ends by itself."""
    (folder / "main.py").write_text("print('ran')\n")
    left = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    command = ["setpriv", "--bounding-set", left, sys.executable, "-P", "-m", "sandboxd"]
    command += ["run", "--quiet", str(folder), "--image", "python", "--exec", "python3 main.py"]
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


def test_capabilities_of_the_unit_are_enough(tmp_path: Path) -> None:
    done = run(tmp_path, CAPABILITIES)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


# kill is for what does not end by itself; without dac_override not even the rest can be cleaned up;
# fowner is for files of the api that others could read (state_files.py), and for virtual folders.
@pytest.mark.parametrize(
    "name", [name for name in CAPABILITIES if name not in ("kill", "dac_override", "fowner")]
)
def test_without_one_of_them_nothing_is_run(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, [other for other in CAPABILITIES if other != name])
    assert done.returncode != 0
    assert done.stdout == ""
