"""The values of the package's interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OFFLINE = {"GOPROXY": "off", "CARGO_NET_OFFLINE": "true"}
"""The variables by which tools do not look for a network. A run with a network has none of them."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A named way to build and run programs.

    name     the name that sessions store; lower case
    title    one line for people
    aliases  further names, compared without regard to case
    tools    programs that the runtime needs, each with its alternatives in order of preference
    build, exec
             the POSIX shell text for "*", run in the session's /home/work, which is also HOME;
             "": the step is skipped. {NAME} in the text becomes the path of the tool whose first
             alternative is NAME. There is none for clean: official clients send "*" for it although
             their user has asked for no clean, and it would remove the results of the last run
    environ  variables of every step of the runtime; session and run may replace them
    paths    files and directories outside of the visible ones that the tools read, absolute, with *
             and ? as wildcards
    packages the Debian packages of the tools, for people and scripts/packages
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    tools: tuple[tuple[str, ...], ...] = ()
    build: str = ""
    exec: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def variables(self, network: bool) -> dict[str, str]:
        """The variables of a run that has a `network`, or not."""
        left_out = OFFLINE.items() if network else ()
        return {
            name: value for name, value in self.environ.items() if (name, value) not in left_out
        }


@dataclass(frozen=True, slots=True)
class Description:
    """The description of a runtime for people.

    reason  one clause for each missing tool; "" when the runtime is available
    tools   the absolute path of each tool that the search found, by the tool's first name
    packages  the Debian packages that have the tools; those of a runtime of the configuration are
              unknown
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    available: bool
    reason: str
    tools: Mapping[str, str]
    packages: tuple[str, ...] = ()
