"""The plan of a run: its steps, their limits and environment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ..model import Step


@dataclass(frozen=True, slots=True)
class Clamp:
    """A limit that had to be lowered to what this server allows.

    name       the limit, as clients write it
    requested  the value that the client has requested, in bytes, seconds or as a number
    granted    the value that is in effect
    text       both values for people
    """

    name: str
    requested: float
    granted: float
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a run.

    steps        clean, build, exec
    environ      variables besides those that every program has
    stdin        the whole of exec's standard input; None: the client may type
    interactive  the standard input and output of exec are a terminal
    clamped      the limits that had to be lowered
    options      what the client sent, in a form that can be compared
    role         "" of a client's run; else the purpose of a run that the session itself has
    """

    steps: tuple[Step, ...]
    environ: dict[str, str] = field(default_factory=dict)
    stdin: bytes | None = None
    interactive: bool = False
    clamped: tuple[Clamp, ...] = ()
    options: str = ""
    role: Literal["", "bootstrap", "startup"] = ""

    def without_commands(self) -> Plan:
        """The part of the plan that is still wanted when its run is over."""
        steps = (replace(step, command="") if step.command else step for step in self.steps)
        return replace(self, steps=tuple(steps), environ={})
