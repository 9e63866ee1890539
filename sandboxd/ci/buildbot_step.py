"""The step `SandboxedShellCommand` of Buildbot, for the configuration of a master:

    from sandboxd.ci.buildbot_step import SandboxedShellCommand
    factory.addStep(SandboxedShellCommand("make test", build="make", results=["reports/*.xml"]))

The worker runs `sandboxd run` in its build directory, so the step shows the console live, and its
result is that of the command. The button that stops a build sends SIGTERM first: the program gets
its grace, and the session ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buildbot.steps.shell import ShellCommand  # type: ignore  # only a master has it

from .run_words import run_words

GRACE_S = 15
"""Seconds from SIGTERM to SIGKILL, when a build is stopped."""


class SandboxedShellCommand(ShellCommand):  # type: ignore  # of that module
    """A command in a session of sandboxd with a copy of the build directory, or with the directory
    itself. Its own arguments are those of `run_words`, all others those of ShellCommand."""

    name = "sandboxed"

    def __init__(
        self,
        command: str | Sequence[str],
        build: str = "",
        image: str = "",
        results: Sequence[str] = (),
        options: Sequence[str] = (),
        program: str = "sandboxd",
        workspace: bool = False,
        **kwargs: Any,
    ) -> None:
        words = run_words(command, build, image, results, options, program, workspace)
        super().__init__(**{"command": words, "sigtermTime": GRACE_S} | kwargs)
