"""The plan of a run: its steps, their limits and environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..model import Step


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a run.

    steps    clean, build, exec
    environ  variables besides those that every program has
    stdin    the whole of exec's standard input; None: the client may type
    clamped  names of the limits that had to be lowered, as clients write them
    options  what the client sent, in a form that can be compared
    role     "" of a client's run; else the purpose of a run that the session itself has
    """

    steps: tuple[Step, ...]
    environ: dict[str, str] = field(default_factory=dict)
    stdin: bytes | None = None
    clamped: tuple[str, ...] = ()
    options: str = ""
    role: Literal["", "bootstrap", "startup"] = ""
