"""The jobs of a .gitlab-ci.yml, which gitlab-ci-local runs on this host with its shell executor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import programs
from .documentation import block
from .user import CiUser, kill

pytestmark = pytest.mark.world

RUN = "sandboxd sh --workspace . -ec"
"""A session with the project of the job as its files."""


class Local:
    """The user's gitlab-ci-local, and the repository of a project."""

    def __init__(self, user: CiUser, repository: Path) -> None:
        self.user, self.repository = user, repository
        user.paths.append(programs("gitlab-ci-local", "node with npm"))

    def begin(self, job: dict[str, Any], *options: str) -> subprocess.Popen[str]:
        """Start a pipeline with this job, named build; without one, that of the repository."""
        if job:
            (self.repository / ".gitlab-ci.yml").write_text(json.dumps({"build": job}))
        command = ["gitlab-ci-local", "--no-timestamps", "build", *options]
        return self.user.begin(command, self.repository, NO_COLOR="1", FORCE_COLOR="0")

    def run(self, job: dict[str, Any], *options: str) -> tuple[int, str]:
        """A job to its end: the exit status, and the output."""
        process = self.begin(job, *options)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


@pytest.fixture
def local(user: CiUser, wordcount: Path) -> Local:
    user.call(["git", "remote", "add", "origin", "git@example.org:group/wordcount.git"], wordcount)
    return Local(user, wordcount)


def test_job_builds_an_example_with_variables_and_an_artifact(local: Local) -> None:
    script = [f"{RUN} 'make; ./main data/*.txt > report.txt; echo \"$CI_JOB_NAME $MINE $PWD\"'"]
    job = {
        "variables": {"MINE": "of-job"}, "script": script,
        "artifacts": {"paths": ["report.txt"]},
    }  # fmt: skip
    status, output = local.run(job)
    assert status == 0, output
    assert "build of-job /home/work" in output
    report = local.repository / ".gitlab-ci-local" / "artifacts" / "build" / "report.txt"
    assert "words" in report.read_text() and report.stat().st_uid == 61011


def test_job_of_the_documentation_runs_as_written(local: Local) -> None:
    (local.repository / ".gitlab-ci.yml").write_text(block("gitlab-ci-local", "yaml"))
    status, output = local.run({})
    assert status == 0, output
    assert "words" in (local.repository / ".gitlab-ci-local/artifacts/build/report.txt").read_text()


def test_copy_of_the_project_is_run_and_its_results_come_back(local: Local) -> None:
    line = "sandboxd run . --image c --build make --exec './main data/*.txt > report.txt'"
    job = {"script": [f"{line} --get report.txt"], "artifacts": {"paths": ["report.txt"]}}
    status, output = local.run(job)
    assert status == 0, output
    assert "words" in (local.repository / ".gitlab-ci-local/artifacts/build/report.txt").read_text()


def test_failing_script_fails_the_job_with_its_code(local: Local) -> None:
    status, output = local.run({"script": [f"{RUN} 'echo before; exit 7'", "echo not-reached"]})
    assert status != 0
    assert "before" in output and "not-reached\n" not in output
    assert "FAIL 7" in output


def test_output_is_live_and_ctrl_c_ends_the_session(local: Local) -> None:
    process = local.begin({"script": [f"{RUN} 'echo up; sleep 300'"]})
    local.user.wait_for(process, "> up")
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    local.user.nothing_left()


def test_time_limit_of_the_shell_ends_the_job(local: Local) -> None:
    line = RUN.replace("sh ", "sh --timeout 1 ")
    status, output = local.run({"script": [f"{line} 'echo up; sleep 300'"]})
    assert status != 0 and "up" in output and "124" in output


def test_cache_is_there_in_the_next_job(local: Local) -> None:
    script = [
        f"{RUN} 'if [ -e kept/x ]; then echo hit; else echo miss; mkdir kept; : > kept/x; fi'"
    ]
    job = {"script": script, "cache": {"key": "k", "paths": ["kept"]}}
    assert "> miss" in local.run(job, "--shell-isolation")[1]
    assert "> hit" in local.run(job, "--shell-isolation")[1]


@pytest.mark.parametrize("victim", ["-m sandboxd sh", ""])
def test_kill_of_every_client_process_leaves_nothing(local: Local, victim: str) -> None:
    process = local.begin({"script": [f"{RUN} 'echo up; setsid sleep 300 & sleep 300'"]})
    local.user.wait_for(process, "> up")
    kill(process, victim)
    local.user.nothing_left()
