"""The environment of a step: the variables of a CI system that its script gets, by a list. No I/O.

A CI system gives its shell the environment of its own process, with secrets of the system and paths
of the host. Into a session go variables that describe the job, those that the system has set for
the step (`env:` of a workflow, say), and others that the user names. The system has set what its
own environment does not have with the same value.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from ...model import HOME

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

SECRET = (
    "*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*_PASS", "*_PAT",
    "*CREDENTIAL*", "*PRIVATE*", "*_KEY", "*APIKEY*", "*API_KEY*",
)  # fmt: skip
"""Variables that stay out of the session, unless the user names them."""

OF_HOST = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "SHLVL", "PWD", "OLDPWD", "_", "TMPDIR", "TMP",
    "TEMP", "XDG_*", "DBUS_*", "SANDBOXD_*",
)  # fmt: skip
"""Variables about the host, which stay out too."""

NAMES = "SANDBOXD_ENV"
"""The variable with further names or patterns, separated by blanks or commas."""


PASSED = "SANDBOXD_PASS"
"""The variable with names or patterns of what scripts may set for later steps on the host too."""

OF_STEPS = "SANDBOXD_STEP_"
"""The prefix of other variables of scripts: no program of the host acts on such a name."""


def listed(text: str) -> list[str]:
    """The names or patterns in a variable such as SANDBOXD_ENV."""
    return text.replace(",", " ").split()


def step_variables(
    environ: Mapping[str, str],
    outside: str,
    inside: str = HOME,
    of_system: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The variables of a step, out of those of this process. The path `outside` of the host in a
    value becomes the path `inside` of the session. Scripts of earlier steps replace none of them.

    of_system  the environment of the CI system itself; None: it is unknown
    """
    named = listed(environ.get(NAMES, ""))
    of_steps = {
        name.removeprefix(OF_STEPS): value
        for name, value in environ.items()
        if name.startswith(OF_STEPS)
    }
    return of_steps | {
        name: _moved(value, outside, inside)
        for name, value in environ.items()
        if fits(name, named)
        or (
            not fits(name, (*SECRET, *OF_HOST, *CARRIED))
            and (fits(name, DESCRIBING) or _is_set_for_step(name, value, of_system))
        )
    }


def _is_set_for_step(name: str, value: str, of_system: Mapping[str, str] | None) -> bool:
    return of_system is not None and of_system.get(name) != value


def _moved(value: str, outside: str, inside: str) -> str:
    if value == outside or value.startswith(f"{outside}/"):
        return inside + value.removeprefix(outside)
    return value


def fits(name: str, patterns: Sequence[str]) -> bool:
    """A pattern fits the name of a variable."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
