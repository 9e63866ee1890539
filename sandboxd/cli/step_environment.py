"""The environment of a step: the variables of a CI system that its script gets, by a list. No I/O.

A CI system gives its shell the environment of its own process, with secrets of the system and paths
of the host. Only variables that describe the job go into a session, and others that the user names.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from ..model import HOME

CARRIED = (
    "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_STATE",
    "GITHUB_EVENT_PATH",
)  # fmt: skip
"""Variables with the path of a file that is carried into the session."""

READ_ONLY = ("GITHUB_EVENT_PATH",)
"""Those of them whose files do not come back."""

DESCRIBING = (
    "CI", "CI_*", "GITHUB_*", "FORGEJO_*", "GITEA_*", "RUNNER_*", "INPUT_*", "MATRIX_*", "BUILD_*",
    "JOB_*", "GIT_BRANCH", "GIT_COMMIT", "GIT_URL", "DRONE_*", "RUN", "JOB", "ACT",
)  # fmt: skip
"""Variables of GitHub Actions, Forgejo, Woodpecker, GitLab, Jenkins and laminar that describe a
job."""

SECRET = ("*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*CREDENTIAL*", "*PRIVATE*", "*_KEY")
"""Variables that stay out of the session, unless the user names them."""

NAMES = "SANDBOXD_ENV"
"""The variable with further names or patterns, separated by blanks or commas."""


def step_variables(environ: Mapping[str, str], outside: str, inside: str = HOME) -> dict[str, str]:
    """The variables of a step, out of those of the CI system. The path `outside` of the host in a
    value becomes the path `inside` of the session."""
    named = environ.get(NAMES, "").replace(",", " ").split()
    return {
        name: _moved(value, outside, inside)
        for name, value in environ.items()
        if fits(name, named)
        or (fits(name, DESCRIBING) and not fits(name, SECRET) and name not in CARRIED)
    }


def _moved(value: str, outside: str, inside: str) -> str:
    if value == outside or value.startswith(f"{outside}/"):
        return inside + value.removeprefix(outside)
    return value


def fits(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    """A pattern fits the name of a variable."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
