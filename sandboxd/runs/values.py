"""The values that a run is made of and that its calls exchange: plan, input, reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from ..model import Step
from .console_items import Item
from .cursor import Offset, no_note
from .follower import writable
from .next_answer import NextAnswer


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does.

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


@dataclass(frozen=True, slots=True)
class Input:
    """Text that the user typed; `eof` is the end of input after it."""

    text: str
    eof: bool = False

    def line(self) -> str:
        """The text as a program reads it: with a newline, unless there is only the end."""
        text = writable(self.text)
        return text if text.endswith("\n") or (self.eof and not text) else text + "\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call, with the console text that goes with it.

    offset  the client's place in the run once it has received the reply
    note    writes the cursor; to be called when all but the last byte has been handed over
    """

    answer: NextAnswer
    console: list[Item]
    offset: Offset = Offset()
    note: Callable[[], Awaitable[None]] = field(default=no_note, compare=False)
