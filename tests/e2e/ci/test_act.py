"""Workflows of GitHub's form, which act runs on this host, as Forgejo's and GitHub's own runners do
in their host mode. The steps of a workflow are in sessions by its `shell:`; its actions are not.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import programs
from .documentation import block
from .user import CiUser, kill

SHELL = "sandboxd sh --workspace . -e {0}"
MAKE = {"run": "make"}


class Act:
    """The user's act, and the repository of a workflow."""

    def __init__(self, user: CiUser, repository: Path) -> None:
        self.user, self.repository = user, repository
        user.paths.append(programs("act", "Python"))

    def begin(
        self, *steps: dict[str, Any], shell: str = SHELL, **job: Any
    ) -> subprocess.Popen[str]:
        """Start act for a workflow with one job of these steps."""
        workflow = {
            "on": "push",
            "defaults": {"run": {"shell": shell}},
            "jobs": {
                "build": {"runs-on": "sandboxed"}
                | job
                | {"steps": [{"uses": "actions/checkout@v4"}, *steps]}
            },
        }
        return self.push(json.dumps(workflow))  # JSON is YAML

    def push(self, workflow: str) -> subprocess.Popen[str]:
        """Start act for the text of a workflow."""
        place = self.repository / ".github" / "workflows"
        place.mkdir(parents=True, exist_ok=True)
        (place / "ci.yml").write_text(workflow)
        command = ["act", "push", "-P", "sandboxed=-self-hosted", "--pull=false"]
        command += ["--action-cache-path", f"{self.user.home}/act"]
        return self.user.begin(command, self.repository)

    def run(self, *steps: dict[str, Any], **options: Any) -> tuple[int, str]:
        """A workflow to its end: the exit status of act, and its output."""
        process = self.begin(*steps, **options)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


@pytest.fixture
def act(user: CiUser, wordcount: Path) -> Act:
    return Act(user, wordcount)


def test_act_builds_an_example_with_outputs_variables_and_an_artifact(act: Act) -> None:
    count = './main data/*.txt > report.txt; echo "lines=$(wc -l < report.txt)" >> "$GITHUB_OUTPUT"'
    status, output = act.run(
        MAKE | {"env": {"CFLAGS": "-O1 -DMARK=3"}},
        {"run": count, "id": "count"},
        {"run": 'echo "MINE=of-step" >> "$GITHUB_ENV"; mkdir -p tools; echo "$PWD/tools" >> '
                '"$GITHUB_PATH"; printf "#!/bin/sh\\necho of-tool\\n" > tools/mine; '
                'chmod +x tools/mine'},
        {"run": 'echo "$MINE, ${{ steps.count.outputs.lines }} lines, $(mine), $(id -un), $PWD"'},
        {"run": 'echo "<$MINE>"; cp report.txt "$HOME"; stat -c %u report.txt', "shell": "bash"},
    )  # fmt: skip
    assert status == 0, output
    assert "-O1 -DMARK=3" in output
    assert "of-step, 11 lines, of-tool, work, /home/work" in output
    assert "| <>" in output
    report = act.user.home / "report.txt"
    assert "words" in report.read_text() and "| 61011\n" in output


def test_workflow_command_in_the_output_of_a_script_reaches_no_later_step(act: Act) -> None:
    """Without a condition, act carried it out up to 0.2.84."""
    status, output = act.run(
        {"run": "echo ::set-env name=BY_SCRIPT::1; echo ::add-path::/home/work; printf ::set-output"
                "' name=x::'of-script", "id": "hostile"},
        {"run": 'echo "<$BY_SCRIPT|${{ steps.hostile.outputs.x }}>"; case $PATH in '
                "*/home/work*) echo reached; esac", "shell": "bash"},
        env={"ACTIONS_ALLOW_UNSECURE_COMMANDS": "true"},
    )  # fmt: skip
    assert status == 0, output
    assert "| <|>" in output and "| reached" not in output


def test_workflow_of_the_documentation_runs_as_written(act: Act) -> None:
    process = act.push(block("act", "yaml"))
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, "| the report has 11 lines" in output) == (0, True), output


def test_failing_step_ends_the_job_with_its_code(act: Act) -> None:
    status, output = act.run({"run": "echo before; exit 7"}, {"run": "echo not-reached"})
    assert status == 1
    assert "before" in output and "exit status 7" in output and "not-reached" not in output


@pytest.mark.world
def test_output_of_a_step_is_live_and_ctrl_c_ends_it_with_its_session(act: Act) -> None:
    process = act.begin({"run": "echo up; sleep 300"})
    act.user.wait_for(process, "| up")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    act.user.nothing_left()


@pytest.mark.world
def test_time_limit_of_a_step_in_the_workflow_ends_it(act: Act) -> None:
    status, output = act.run({"run": "echo up; sleep 300", "timeout-minutes": 1})
    assert status == 1 and "| up" in output
    act.user.nothing_left()


@pytest.mark.world
def test_time_limit_of_the_shell_ends_its_step(act: Act) -> None:
    shell = SHELL.replace("sh ", "sh --timeout 1 ")
    status, output = act.run({"run": "echo up; sleep 300"}, shell=shell)
    assert status == 1 and "exit status 124" in output and "time limit" in output


@pytest.mark.world
def test_cache_is_there_in_the_next_job(act: Act) -> None:
    user = act.user
    assert user.call(["sandboxd", "folder", "create", "cache", "--size", "64m"], user.home)[0] == 0
    shell = SHELL.replace("sh ", "sh --folder cache ")
    look = {"run": "if [ -e cache/x ]; then echo hit; else echo miss; echo > cache/x; fi"}
    assert "| miss" in act.run(look, shell=shell)[1]
    assert "| hit" in act.run(look, shell=shell)[1]
    assert user.call(["sandboxd", "folder", "rm", "cache"], user.home)[0] == 0


@pytest.mark.world
@pytest.mark.parametrize("victim", ["act push", "-m sandboxd sh", ""])
def test_kill_of_every_client_process_leaves_nothing(act: Act, victim: str) -> None:
    process = act.begin({"run": "echo up; setsid sleep 300 & sleep 300"})
    act.user.wait_for(process, "| up")
    kill(process, victim)
    act.user.nothing_left()
