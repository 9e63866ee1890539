"""The values that this package gives away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Runtime:
    """A named way to build and run programs.

    name     what sessions store; lower case
    title    one line for people
    aliases  further names, compared without regard to case
    tools    programs that must be there, each with its alternatives in order of preference
    clean, build, exec
             POSIX shell text that "*" stands for, run in the session's /home/work, which is
             HOME too; "": the step is skipped. {NAME} in it becomes the path of the tool whose
             first alternative is NAME
    environ  variables that every step of the runtime gets; session and run may replace them
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    tools: tuple[tuple[str, ...], ...] = ()
    clean: str = ""
    build: str = ""
    exec: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Description:
    """A runtime as it is told to people.

    reason  why it is absent: one clause per missing tool; "" when it is available
    tools   first name of each tool that was found: the absolute path of what was found
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    available: bool
    reason: str
    tools: Mapping[str, str]
