"""Files of a CI step that a script leaves in a form that cannot be passed on: a line says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from .daemon import Daemon
from .test_session_commands import sandboxd


@pytest.mark.parametrize(
    "script",
    [
        'head -c 1100000 /dev/zero > "$GITHUB_OUTPUT"',
        'head -c 5000000 /dev/zero > "$GITHUB_OUTPUT"',
        'rm "$GITHUB_OUTPUT"', 'ln -sf /etc/passwd "$GITHUB_OUTPUT"',
        'rm "$GITHUB_OUTPUT"; mkfifo "$GITHUB_OUTPUT"',
    ],
)  # fmt: skip
def test_file_of_a_step_that_cannot_be_passed_on_is_named(
    daemon: Daemon, tmp_path: Path, script: str
) -> None:
    output = tmp_path / "output"
    output.write_text("before=1\n")
    done = sandboxd(daemon, "sh", "-c", f"{script}; exit 3", GITHUB_OUTPUT=str(output))
    assert done.returncode == 3
    assert "GITHUB_OUTPUT: not passed on" in done.stderr and done.stderr.count("sandboxd: ") == 1
    assert output.read_text() == "before=1\n"
