"""Acts in a throw-away child, and what became of each.

What cannot be undone (a namespace entered, root given up) is done in a child, which ends with
it. A child that does not end is killed; it dies with us too, so that nothing outlives a trial.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Self

from ..errors import SandboxdError, StageError
from ..jail import syscalls
from ..jail.stage import stage

Act = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`text` is what the act returned, or why it failed; then `errno` is the kernel's answer, if
    that was the cause, and `remedy` what to do, if the point of failure knows."""

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
            _be_tried(acts, answer, parent)
        os.close(answer)

    def outcomes(self, deadline: float) -> dict[str, Outcome]:
        """Of each act, by name; the child ends at `deadline` (monotonic) at the latest."""
        with self:
            lines = _read(self._fd, deadline).split(b"\n")
        found = dict.fromkeys(self._names, Outcome(False, "it did not end"))
        for line in lines[:-1]:
            name, *fields = json.loads(line)
            found[name] = Outcome(*fields)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The child ends now, if it has not been asked for its outcomes."""
        if self._pid:
            os.close(self._fd)
            os.kill(self._pid, signal.SIGKILL)  # not collected yet, so it is still the same
            os.waitpid(self._pid, 0)
            self._pid = 0

    def is_over(self) -> bool:
        """Nothing more comes: it has ended, or said what there is to say."""
        return bool(select.select([self._fd], [], [], 0)[0])


def attempt(act: Act, seconds: float) -> str:
    """Try `act` alone; what it returned. Raises StageError when it failed or did not end."""
    found = Trial({"": act}).outcomes(time.monotonic() + seconds)[""]
    if not found.done:
        raise StageError("trial", found.text, found.errno, found.remedy)
    return found.text


def die_with(parent: int) -> None:
    """Be killed when `parent`, whose child we are, ends; it may have done so already."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (parent, 0):  # 0: it is outside of our pid namespace
        os._exit(1)


def _be_tried(acts: Mapping[str, Act], answer: int, parent: int) -> None:
    """Do each act, say how it went, and end."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        die_with(parent)
        for name, act in acts.items():
            found = _tried(act)
            os.write(answer, json.dumps([name, *astuple(found)]).encode() + b"\n")
    finally:
        os._exit(0)


def _tried(act: Act) -> Outcome:
    try:
        return Outcome(True, act())
    except StageError as error:
        code = f": {os.strerror(error.errno)}" if error.errno else ""
        text = error.message.removesuffix(code) + code
        return Outcome(False, text, error.errno, error.remedy)
    except SandboxdError as error:
        return Outcome(False, str(error))
    except OSError as error:
        return Outcome(False, StageError.of("", error).message, error.errno or 0)
    except Exception as error:  # a bug of ours: what was tried does not hold, and we say why
        return Outcome(False, f"{type(error).__name__}: {error}")


def _read(fd: int, deadline: float) -> bytes:
    """What comes until the end of `fd` or the deadline."""
    data = b""
    while select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(fd, 65536)
        if not piece:
            break
        data += piece
    return data
