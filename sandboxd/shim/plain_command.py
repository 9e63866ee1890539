"""Plain commands: a program and its arguments, without any character or name of the shell's own.

bash would do nothing but replace itself by the program. Init executes the program at once, which
saves 2 to 3 ms of CPU time a step. A command is left to bash whenever bash might do anything else
with it: print why a program cannot be executed, run a script that names no interpreter, or read a
variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from ..model import HOME

SHELL = "/bin/bash"
"""The shell whose rules these are."""

LENGTH_MAX = 4096
"""Characters of a command that is looked at."""

_FIRST = r"[A-Za-z0-9_./+-]+"
_WORD = r"[A-Za-z0-9_./+:,@%=-]+"
_PLAIN = re.compile(rf"[ \t\n]*{_FIRST}(?:[ \t]+{_WORD})*[ \t\n]*")

OWN = frozenset({
    ".", "alias", "bg", "bind", "break", "builtin", "caller", "case", "cd", "command", "compgen",
    "complete", "compopt", "continue", "coproc", "declare", "dirs", "disown", "do", "done", "echo",
    "elif", "else", "enable", "esac", "eval", "exec", "exit", "export", "false", "fc", "fg", "fi",
    "for", "function", "getopts", "hash", "help", "history", "if", "in", "jobs", "kill", "let",
    "local", "logout", "mapfile", "popd", "printf", "pushd", "pwd", "read", "readarray", "readonly",
    "return", "select", "set", "shift", "shopt", "source", "suspend", "test", "then", "time",
    "times", "trap", "true", "type", "typeset", "ulimit", "umask", "unalias", "unset", "until",
    "wait", "while",
})  # fmt: skip
"""The plain words that bash does not look up as programs: builtin commands and reserved words."""

_NAMES = frozenset({"ENV", "OLDPWD", "POSIXLY_CORRECT", "PWD", "SHELLOPTS", "SHLVL", "_"})


def argv(shell: str, command: str, environ: Mapping[str, str]) -> list[str]:
    """The program and its arguments as the shell would execute them; none: it has to read the
    command. `environ` are the variables of the step."""
    if shell != SHELL or len(command) > LENGTH_MAX or not _PLAIN.fullmatch(command):
        return []
    parts = command.split()
    if parts[0] in OWN or any(name in _NAMES or name.startswith("BASH") for name in environ):
        return []
    return parts


def executable(program: str, environ: Mapping[str, str]) -> str:
    """The path of the program that bash would execute in this directory; empty: bash has to look
    for it. `environ` are the variables of the step."""
    if "/" in program:
        return program
    for directory in environ.get("PATH", "").split(":"):
        if not directory.startswith("/"):
            return ""
        path = f"{directory}/{program}"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def variables(path: str) -> dict[str, str]:
    """The variables that bash adds for a program that it replaces itself by (bash(1), Shell
    Variables)."""
    return {"PWD": HOME, "SHLVL": "0", "_": path}
