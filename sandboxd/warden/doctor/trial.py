"""Trials: acts in a throw-away child, and their outcomes.

An act that cannot be undone (a namespace entered, root given up) is done in a child that ends with
it. A child that does not end is killed. It also dies with its parent, so nothing outlives a trial.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Self

from ...errors import SandboxdError, StageError
from ...host.descriptors import readable
from ...jail.stage import stage
from ..fork import default_signals, die_with

Act = Callable[[], str]


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """`text` is the return value of the act, or the reason of its failure. `errno` is the
    kernel's answer, if that was the cause, and `remedy` a line for the operator, if the point of
    failure knows one."""

    done: bool
    text: str
    errno: int = 0
    remedy: str = ""


class Trial:
    """`acts` under way, one after the other in one child; `outcomes` waits for them, and the end
    of a `with` does not."""

    def __init__(self, acts: Mapping[str, Act]) -> None:
        self._names = list(acts)
        with stage("fork"):
            self._fd, answer = os.pipe2(os.O_CLOEXEC)
            parent = os.getpid()
            self._pid = os.fork()
        if self._pid == 0:
            _try_all(acts, answer, parent)
        os.close(answer)

    def outcomes(self, deadline: float) -> dict[str, TrialOutcome]:
        """Of each act, by name; the child ends at `deadline` (monotonic) at the latest."""
        with self:
            lines = _read(self._fd, deadline).split(b"\n")
        outcomes = dict.fromkeys(self._names, TrialOutcome(False, "it did not end"))
        for line in lines[:-1]:
            name, *fields = json.loads(line)
            outcomes[name] = TrialOutcome(*fields)
        return outcomes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the child now, if its outcomes have not been read."""
        if self._pid:
            os.close(self._fd)
            os.kill(self._pid, signal.SIGKILL)  # not collected yet, so it is still the same
            os.waitpid(self._pid, 0)
            self._pid = 0

    def is_over(self) -> bool:
        """Nothing more comes: the child has ended, or written its outcomes."""
        return bool(readable(self._fd, wait_s=0))


def attempt(act: Act, seconds: float) -> str:
    """Try `act` alone; its text. Raises StageError when it failed or did not end."""
    outcome = Trial({"": act}).outcomes(time.monotonic() + seconds)[""]
    if not outcome.done:
        raise StageError("trial", outcome.text, outcome.errno, outcome.remedy)
    return outcome.text


def _try_all(acts: Mapping[str, Act], answer: int, parent: int) -> None:
    """Do each act, say how it went, and end."""
    try:
        default_signals()
        die_with(parent)
        for name, act in acts.items():
            outcome = _tried(act)
            os.write(answer, json.dumps([name, *astuple(outcome)]).encode() + b"\n")
    finally:
        os._exit(0)


def _tried(act: Act) -> TrialOutcome:
    try:
        return TrialOutcome(True, act())
    except StageError as error:
        code = f": {os.strerror(error.errno)}" if error.errno else ""
        text = error.message.removesuffix(code) + code
        return TrialOutcome(False, text, error.errno, error.remedy)
    except SandboxdError as error:
        return TrialOutcome(False, str(error))
    except OSError as error:
        return TrialOutcome(False, StageError.of("", error).message, error.errno or 0)
    except Exception as error:  # a bug of the probe: the guarantee does not hold
        return TrialOutcome(False, f"{type(error).__name__}: {error}")


def _read(fd: int, deadline: float) -> bytes:
    """The bytes of `fd` until its end or the deadline."""
    data = b""
    while readable(fd, wait_s=max(0.0, deadline - time.monotonic())):
        piece = os.read(fd, 65536)
        if not piece:
            break
        data += piece
    return data
