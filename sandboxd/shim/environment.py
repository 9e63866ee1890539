"""The variables of every step, whatever its runtime. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from ..model import ALIASES, HOME, PATH

VARIABLES = {
    "TERM": "xterm",
    "LANG": "C.UTF-8",
    "SHELL": "/bin/bash",
    "USER": "work",
    "HOME": HOME,
    "PATH": f"{HOME}/.local/bin:{PATH}:{ALIASES}",
    # The leak detection of -fsanitize=address stops the threads of the program by ptrace(2). Where
    # ptrace is refused, it ends every program with an error.
    "LSAN_OPTIONS": "detect_leaks=0",
    # npm says at once that the registry has no address, instead of trying for 70 s.
    "npm_config_fetch_retries": "0",
}
"""The runtime, the session and the run may replace each of them."""

UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
"""A question of Python is seen before the answer is awaited. Each print is a system call then, so
only a program that may ask somebody has the variable."""


def of_step(may_ask: bool, own: Mapping[str, str]) -> dict[str, str]:
    """The variables of a step that has these of its `own` and may ask a client, or not."""
    return {**VARIABLES, **(UNBUFFERED if may_ask else {}), **own}
