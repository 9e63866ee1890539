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


SCRIPT = "COMMAND {}; echo ::debug::after"


def printed(
    body: str, redirection: str = "2>&1", *, script: str = SCRIPT, mark: str = "", **more: bool
) -> str:
    """The output of a step that prints by a Reporter `say`, and then `::debug::after`."""
    return step(program(body, **more), redirection, mark, script)


def program(body: str, as_json: bool = False) -> str:
    """The Python code that prints by a Reporter `say`."""
    return f"""
        import base64
        from sandboxd.cli.reporter import Reporter
        say = Reporter(True, {as_json})
        def put(kind, text):
            say.console(kind, base64.b64encode(text.encode()))
        with say.program():
            {body}
    """


def step(code: str, redirection: str = "2>&1", mark: str = "", script: str = SCRIPT) -> str:
    """The output of a step of Python code, and then `::debug::after`."""
    done = started(code, script.replace("{}", redirection), mark, subprocess.STDOUT)
    return done.stdout


def streams(body: str, script: str, mark: str) -> tuple[str, str]:
    """Standard output and standard error of a step that is read as the runner of GitHub does."""
    done = started(program(body), script, mark, subprocess.PIPE)
    return done.stdout, done.stderr


def started(code: str, script: str, mark: str, errors: int) -> subprocess.CompletedProcess[str]:
    text = "exec 3>&1; " + script.replace("COMMAND", '"$0" -P -c "$1"')
    return subprocess.run(
        ["sh", "-c", text, sys.executable, textwrap.dedent(code)],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), mark or "NONE": "true"},
        stdout=subprocess.PIPE, stderr=errors, text=True, timeout=60,
    )  # fmt: skip


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


@each_case("redirection", ["| cat", "2>/dev/null | cat", "2>&1 | cat"])
def test_workflow_command_that_a_script_passes_on_is_not_carried_out(redirection: str) -> None:
    output = printed(f"put('stdout', '{ATTACK}\\n')", redirection, mark="GITHUB_ENV")
    assert ATTACK in output and carried_out(output) == []


@each_case("redirection", ["2>/dev/null", "2>&1", "2>FILE", ">/dev/null", ">&3"])
def test_commands_go_on_behind_output_that_goes_to_the_log_alone(
    redirection: str, tmp_path: Path
) -> None:
    where = redirection.replace("FILE", str(tmp_path / "file"))
    body = f"put('stdout', '{ATTACK}'); put('stderr', '{ATTACK}')"
    output = printed(body, where, mark="GITHUB_ENV")
    assert ATTACK in output and carried_out(output) == ["::debug::after"]


@each_case("redirection", ["2>/dev/null", "2>&1", ""])
@each_case("shells", [0, 2])
def test_output_that_a_script_captures_has_the_bytes_of_the_program_alone(
    redirection: str, shells: int
) -> None:
    captured = f"X=$( {'( ' * shells}COMMAND {redirection}{' )' * shells} )"
    script = captured + '; echo "<$X>"; echo ::debug::after'
    output = printed(f"put('stdout', '{ATTACK}')", script=script, mark="GITHUB_ENV")
    assert f"<{ATTACK}>\n" in output and carried_out(output) == []


def test_streams_of_the_log_that_are_read_apart_have_both_lines_around_all_output() -> None:
    body = f"put('stdout', '{ATTACK}\\n'); put('stderr', '{ATTACK}'); put('stdout', '{ATTACK}')"
    output, errors = streams(body, "COMMAND; echo ::debug::after", "GITHUB_ENV")
    assert output.count(ATTACK) == 3 and carried_out(output) == ["::debug::after"]
    assert carried_out(errors) == [] and ATTACK not in errors


def test_lines_of_the_command_behind_the_output_go_to_standard_error() -> None:
    code = program("put('stderr', 'of the program')") + "    say.warning('of the command')\n"
    done = started(code, "COMMAND", "GITHUB_ENV", subprocess.PIPE)
    assert "of the program" in done.stdout and done.stderr == "sandboxd: of the command\n"


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
