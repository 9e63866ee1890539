"""The words of a `sandboxd run` for one step of a CI system. No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def run_words(
    command: str | Sequence[str],
    build: str = "",
    image: str = "",
    results: Sequence[str] = (),
    options: Sequence[str] = (),
    program: str = "sandboxd",
    workspace: bool = False,
) -> list[str]:
    """The command line that runs `command` in a new session with a copy of the current directory.

    command    text for a shell, or words that no shell reads
    build      text for a shell, before it
    results    names that are fetched into the current directory
    options    further options of `sandboxd run`, such as ("--mem", "2g")
    program    the path of sandboxd
    workspace  the session has the current directory itself, in the place of a copy
    """
    text = command if isinstance(command, str) else shlex.join(command)
    words = [program, "run", *(["--workspace"] if workspace else []), ".", "--exec", text]
    if build:
        words += ["--build", build]
    if image:
        words += ["--image", image]
    if results:
        words += ["--get", *results]
    return [*words, "--wait", "--with-parent", *options]
