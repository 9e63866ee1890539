"""The job of GitLab Runner, as JOB_RESPONSE_FILE describes it.

A job can set the variables of its environment as it likes, but not this file. No name that follows
from it has the token of the job.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ...errors import ConfigError

JOB_S = 3600.0
"""The time limit of a script whose job names none."""


def job_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """The job, as the runner has got it. Raises ConfigError."""
    path = environ.get("JOB_RESPONSE_FILE")
    if not path:
        raise ConfigError(
            "JOB_RESPONSE_FILE is not set: GitLab Runner calls this command, and sets it"
        )
    try:
        with open(path, encoding="utf-8") as file:
            job: dict[str, Any] = json.load(file)
        return job | {"id": int(job["id"]), "token": str(job["token"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ConfigError(f"JOB_RESPONSE_FILE {path} is no job: {error}") from None


def session_name(job: Mapping[str, Any]) -> str:
    """The name of the job's session. Ids of several coordinators may be the same, tokens are not,
    and a token is no part of a name."""
    digest = hashlib.sha256(str(job["token"]).encode()).hexdigest()
    return f"gitlab-{job['id']}-{digest[:12]}"


def image_of(job: Mapping[str, Any], default: str) -> str:
    """The runtime that the job names with `image:`."""
    image = job.get("image")
    name = image.get("name") if isinstance(image, dict) else None
    return str(name) if name else default


def timeout_of(job: Mapping[str, Any]) -> float:
    """The seconds that the job may take."""
    info = job.get("runner_info")
    seconds = info.get("timeout") if isinstance(info, dict) else None
    return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else JOB_S


def cache_name(job: Mapping[str, Any]) -> str:
    """The name of the folder for the caches of the job's project. Jobs of protected branches have
    another one, so that what others put into a cache does not come to them."""
    info, git = (_object(job, name) for name in ("job_info", "git_info"))
    coordinator = urlsplit(str(git.get("repo_url") or "")).netloc.rpartition("@")[2]
    digest = hashlib.sha256(coordinator.encode()).hexdigest()
    kind = "protected" if git.get("protected") is True else "cache"
    return f"gitlab-{kind}-{_number(info.get('project_id'))}-{digest[:8]}"


def _object(job: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = job.get(name)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
