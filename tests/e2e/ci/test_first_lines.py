"""Scripts as laminar, Jenkins and Woodpecker call them, with the lines of docs/ci.md. The systems
themselves are in no registry of packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .documentation import block
from .user import CiUser

PROBE = 'x=1 && [ "$x" = "1" ] && command -v test >/dev/null && printf ok'
"""Woodpecker asks a shell for this before each step, in the agent's own directory."""


def program(place: Path, text: str) -> str:
    """An executable file with this text."""
    place.write_text(text)
    place.chmod(0o755)
    return str(place)


@pytest.mark.parametrize("system", ["laminar", "Jenkins"])
def test_script_with_the_first_line_works_in_the_checkout(
    user: CiUser, wordcount: Path, system: str
) -> None:
    if system == "laminar":
        text = block(system, "sh")
    else:
        text = block(system, "groovy").partition("'''")[2].partition("'''")[0]
    script = program(user.home / "script", text)
    status, output = user.call([script], wordcount, BUILD_ID="7", JENKINS_URL="http://example/")
    assert status == 0, output
    assert "+ make" in output and "words" in (wordcount / "report.txt").read_text()
    failing = program(user.home / "script", text.replace("make\n", "exit 7\n"))
    assert user.call([failing], wordcount)[0] == 7


def test_shell_of_woodpecker_answers_its_probe_and_runs_a_step_in_the_workspace(
    user: CiUser, wordcount: Path
) -> None:
    shell = program(user.home / "bin" / "sandboxed", block("Woodpecker, backend local", "sh"))
    assert user.call([shell, "-c", PROBE], Path("/")) == (0, "ok")
    step = {"CI": "woodpecker", "CI_WORKSPACE": str(wordcount), "HOME": str(user.home)}
    script = "echo '+ make'\nmake\necho '+ report'\n./main data/*.txt > report.txt\nfalse\necho no"
    status, output = user.call([shell, "-e", "-c", script], wordcount, **step)
    assert status == 1 and "+ report" in output and "\nno" not in output
    assert (wordcount / "report.txt").stat().st_uid != os.geteuid()
