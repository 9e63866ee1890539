"""The variables of a session, as --env and --env-file give them.

A value that comes from the environment or from a file is in no list of processes, which every user
of the host can read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..errors import ConfigError


def variables(settings: Iterable[str], files: Iterable[str] = ()) -> dict[str, str]:
    """The variables of --env-file FILE and then of --env NAME=VALUE or NAME, whose value is this
    process's own. Raises ConfigError."""
    values: dict[str, str] = {}
    for file in files:
        for number, line in enumerate(_lines(file), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                values |= _variable(f"--env-file {file}, line {number}", line.rstrip("\r"))
    for text in settings:
        values |= _variable(f"--env {text.partition('=')[0]}", text)
    return values


def _lines(file: str) -> list[str]:
    try:
        with open(file, encoding="utf-8", errors="surrogateescape", newline="\n") as opened:
            return opened.read().split("\n")
    except OSError as error:
        raise ConfigError(f"--env-file {file}: {error.strerror}") from None


def _variable(where: str, text: str) -> dict[str, str]:
    name, equals, value = text.partition("=")
    if not name:
        raise ConfigError(f"{where}: write NAME=VALUE, or NAME for the value of your environment")
    if equals:
        return {name: value}
    if name not in os.environ:
        raise ConfigError(f"{where}: write NAME=VALUE, or set {name} in your environment first")
    return {name: os.environ[name]}
