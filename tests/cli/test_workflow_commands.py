"""Attacks by workflow commands: a program prints lines that its CI system would carry out."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sandboxd.cli.step.step_environment import CARRIED

from ..each_case import each_case

ATTACK = "::set-env name=LD_PRELOAD::./evil.so"

COMMAND = re.compile(r"^::([^ ]+)( .+)?::(.*)\n$")
"""A line that act takes for a command."""


def carried_out(output: str) -> list[str]:
    """The commands that act carries out, as its pkg/runner/command.go does."""
    stopped, commands = "", []
    for line in output.splitlines(keepends=True):
        match = COMMAND.match(line)
        if match is None or stopped not in ("", match[1]):
            continue
        if match[1] == "stop-commands":
            stopped = match[3]
        elif match[1] == stopped:
            stopped = ""
        else:
            commands.append(line.strip())
    return commands


def printed(body: str, redirection: str = "2>&1", *, mark: str = "", as_json: bool = False) -> str:
    """The output of a step that prints by a Reporter `say`, and then `::debug::after`."""
    code = f"""
        import base64
        from sandboxd.cli.reporter import Reporter
        say = Reporter(True, {as_json})
        def put(kind, text):
            say.console(kind, base64.b64encode(text.encode()))
        with say.program():
            {body}
    """
    return step(code, redirection, mark)


def step(code: str, redirection: str = "2>&1", mark: str = "") -> str:
    """The output of a step of Python code, and then `::debug::after`."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -P -c "$1" {redirection}; echo ::debug::after', sys.executable,
         textwrap.dedent(code)],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), mark or "NONE": "true"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout


def test_workflow_command_as_the_name_of_a_case_is_not_carried_out() -> None:
    code = f"""
        from sandboxd.cli.judged_cases import _report
        from sandboxd.cli.reporter import Reporter
        case = {{"name": "{ATTACK}", "exitCode": 0, "passed": True}}
        _report({{"cases": [case]}}, Reporter(True, False), as_json=False)
    """
    output = step(code, mark="GITHUB_ACTIONS")
    assert f"\n{ATTACK}: passed" in output and carried_out(output) == ["::debug::after"]


@each_case(
    "body",
    [
        f"put('stdout', '{ATTACK}\\n')",
        f"put('stdout', '{ATTACK}')",
        f"put('stdout', ':'); put('stderr', '{ATTACK[1:]}\\n')",
        f"put('stdout', '{ATTACK}\\n::x::\\n::stop-commands::x\\n::x::\\n{ATTACK}\\n')",
        f"put('stderr', '{ATTACK}\\n'); raise SystemExit(143)",
        f"put('stdout', '{ATTACK}'); raise KeyboardInterrupt",
        f"say.text('stdout', '{ATTACK}')",
        f"say.warning('name\\n{ATTACK}\\n')",
    ],
)
@each_case("mark", ["GITHUB_ACTIONS", *CARRIED])
def test_workflow_command_of_a_program_is_not_carried_out(body: str, mark: str) -> None:
    assert carried_out(printed(body, mark=mark)) == ["::debug::after"]


def test_workflow_command_is_carried_out_without_the_protection() -> None:
    assert carried_out(printed(f"put('stdout', '{ATTACK}\\n')")) == [ATTACK, "::debug::after"]


@each_case("redirection", ["| cat", "2>/dev/null", "2>/dev/null | cat"])
def test_workflow_command_that_takes_another_way_is_not_carried_out(redirection: str) -> None:
    output = printed(f"put('stdout', '{ATTACK}\\n')", redirection, mark="GITHUB_ACTIONS")
    assert carried_out(output) == []


@pytest.mark.parametrize("redirection", [">FILE", ">FILE 2>/dev/null"])
def test_file_for_the_output_has_the_bytes_of_the_program_alone(
    tmp_path: Path, redirection: str
) -> None:
    file = tmp_path / "file"
    where = redirection.replace("FILE", str(file))
    output = printed("put('stdout', '1.2')", where, mark="GITHUB_ACTIONS")
    assert file.read_text() == "1.2" and carried_out(output) == ["::debug::after"]


def test_output_that_a_script_reads_has_the_bytes_of_the_program_alone() -> None:
    output = printed("put('stdout', '1.2')", "| sed 's/.*/<&>/'", mark="GITHUB_ACTIONS")
    assert "<1.2>" in output and output.count("<") == 1


def test_json_for_a_program_has_no_other_lines() -> None:
    output = printed("put('stdout', '::x::')", as_json=True, mark="GITHUB_ACTIONS")
    assert output.count("\n") == 2 and output.startswith("{")
