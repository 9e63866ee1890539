"""The job of GitLab Runner: its session, its image and its time limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli.step.gitlab_job import cache_name, image_of, job_of, session_name, timeout_of
from sandboxd.errors import ConfigError

from ..each_case import each_case

JOB: dict[str, Any] = {"id": 17, "token": "secret-of-the-job"}


def test_name_follows_from_the_file_and_not_from_variables_that_a_job_can_set(
    tmp_path: Path,
) -> None:
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    environ = {"JOB_RESPONSE_FILE": str(tmp_path / "job.json")}
    name = session_name(job_of(environ))
    forged = environ | {"CUSTOM_ENV_CI_JOB_ID": "18", "CI_JOB_ID": "18", "CUSTOM_ENV_TOKEN": "x"}
    assert session_name(job_of(forged)) == name
    assert name.startswith("gitlab-17-") and "secret" not in name and len(name) <= 64


def test_jobs_of_two_coordinators_with_one_id_have_two_sessions() -> None:
    assert session_name(JOB) != session_name(JOB | {"token": "another"})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"id": "x", "token": "t"}', '{"id": 1}', "null", '{"id": null}']
)
def test_file_that_is_no_job_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(ConfigError, match="is no job"):
        job_of({"JOB_RESPONSE_FILE": str(tmp_path / "job.json")})


def test_without_the_file_nothing_is_guessed() -> None:
    with pytest.raises(ConfigError, match="JOB_RESPONSE_FILE is not set"):
        job_of({"CUSTOM_ENV_CI_JOB_ID": "17"})


@pytest.mark.parametrize(
    ("image", "runtime"),
    [(None, "shell"), ({"name": "c:13"}, "c:13"), ({"name": ""}, "shell"), (7, "shell")],
)  # fmt: skip
def test_image_of_the_job_is_its_runtime(image: Any, runtime: str) -> None:
    assert image_of(JOB | {"image": image}, "shell") == runtime


@pytest.mark.parametrize(
    ("info", "seconds"), [(None, 3600), ({"timeout": 90}, 90), ({"timeout": 0}, 3600)]
)
def test_time_limit_is_that_of_the_job(info: Any, seconds: float) -> None:
    assert timeout_of(JOB | {"runner_info": info}) == seconds


GIT = {"repo_url": "https://gitlab-ci-token:t0@gitlab.example/g/p.git", "protected": False}
PROJECT = JOB | {"job_info": {"project_id": 42}, "git_info": GIT}


def test_jobs_of_a_project_share_a_cache() -> None:
    another = GIT | {"repo_url": "https://gitlab-ci-token:t1@gitlab.example/g/renamed.git"}
    assert cache_name(PROJECT) == cache_name(PROJECT | {"id": 18, "git_info": another})
    assert cache_name(PROJECT).startswith("gitlab-cache-42-") and "t0" not in cache_name(PROJECT)


@pytest.mark.parametrize(
    "change",
    [{"job_info": {"project_id": 43}}, {"git_info": GIT | {"protected": True}},
     {"git_info": GIT | {"repo_url": "https://gitlab-ci-token:t@other.example/g/p.git"}}],
)  # fmt: skip
def test_other_project_protection_or_coordinator_has_a_cache_of_its_own(change: Any) -> None:
    assert cache_name(PROJECT | change) != cache_name(PROJECT)


@each_case("part", [None, 7, [], {}, {"project_id": "../x", "repo_url": 7}])
def test_name_of_a_cache_is_plain_whatever_the_job_says(part: Any) -> None:
    name = cache_name(JOB | {"job_info": part, "git_info": part})
    assert name.replace("-", "").isalnum() and len(name) < 64
