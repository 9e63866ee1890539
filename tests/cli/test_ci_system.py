"""The environment of the CI system that has called a command."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from ..each_case import each_case

SCRIPT = """
import os
from sandboxd.cli.step.ci_system import system_environment
print(system_environment(os.environ))
"""


def seen(system: dict[str, str], job: dict[str, str], shells: int) -> str:
    """The view of a command on the system that has started `shells` shells with it, as text."""
    command = shlex.join([sys.executable, "-c", SCRIPT])
    for _ in range(shells):
        command = shlex.join(["sh", "-c", f"export OF_SHELL=x; {command}; true"])
    settings = shlex.join(f"{name}={value}" for name, value in job.items())
    done = subprocess.run(
        ["sh", "-c", f"env {settings} {command}; true"], env=system, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@each_case("shells", [0, 1, 3])
@each_case("mark", ["CI", "JENKINS_URL"])
def test_environment_of_the_system_is_that_without_the_variables_of_the_job(
    shells: int, mark: str
) -> None:
    system = {"ONE": "1", "EMPTY": "", "TWO": "a=b"}
    assert seen(system, {mark: "true", "MINE": "m"}, shells) == str(system)


def test_command_of_no_system_sees_none() -> None:
    assert seen({"ONE": "1"}, {"MINE": "m"}, 1) == "None"


def test_user_who_may_not_read_the_system_sees_none() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can do this")
    read = SCRIPT.replace("print", "os.setuid(65534)\nprint")
    done = subprocess.run(
        [sys.executable, "-c", read], env={"CI": "1"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"
