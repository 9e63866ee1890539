"""The lines that a script may pass on to its CI system in the files GITHUB_ENV and GITHUB_PATH.
No I/O.

The system applies them to its later steps, and it starts those outside of the session: the next
`sandboxd sh` too. A hostile script would name a library of the checkout in LD_PRELOAD, or its own
`sandboxd` in PATH, and no list has all names by which some program of the host loads or runs
something. So a variable has a prefix there, which the next `sandboxd sh` takes away for the
session; only those that the user lists keep their names. Of directories, those of the session pass:
a later step has them at the front of PATH.

The format has lines NAME=VALUE, and NAME<<WORD with lines up to WORD. Systems read it in different
ways, so the text is parsed strictly and written anew.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence

from ...model import HOME
from .step_environment import OF_STEPS, fits

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
"""With all that some system takes for the end of a line."""


def environment(text: str, named: Sequence[str] = ()) -> tuple[str, list[str]]:
    """GITHUB_ENV as the system may have it, and the names that are left out. `named`: names or
    patterns of the variables that keep their names."""
    passed, left_out = "", []
    for name, value in _entries(text):
        if _NAME.fullmatch(name) and not _CONTROL.search(value):
            passed += _written(name if fits(name, named) else f"{OF_STEPS}{name}", value)
        else:
            left_out.append(name[:64] if _NAME.fullmatch(name) else "a line without a name")
    return passed, left_out


def _entries(text: str) -> Iterator[tuple[str, str]]:
    lines = iter(text.removesuffix("\n").split("\n"))
    for line in lines:
        name, mark, word = line.partition("<<")
        if not mark or "=" in name:
            name, mark, value = line.partition("=")
            if line:
                yield (name if mark else ""), value
            continue
        value_lines: list[str] = []
        for part in lines:
            if part == word:
                yield name, "\n".join(value_lines)
                break
            value_lines.append(part)
        else:  # it has no end
            yield "", ""


def _written(name: str, value: str) -> str:
    if "\n" not in value:
        return f"{name}={value}\n"
    word = f"end-{secrets.token_hex(8)}"
    return f"{name}<<{word}\n{value}\n{word}\n"


def directories(text: str, outside: str) -> tuple[str, list[str]]:
    """GITHUB_PATH as the system may have it, and the lines that are left out. `outside` is the path
    of the host that the session sees."""
    lines = [line for line in text.split("\n") if line]
    passed = [line for line in lines if _is_inside(line) and not _overlaps(outside)]
    return "".join(f"{line}\n" for line in passed), [one for one in lines if one not in passed]


def inside_directories(path: str) -> list[str]:
    """The directories of the session in the variable PATH of the CI system."""
    return [one for one in path.split(":") if _is_inside(one)]


def _is_inside(directory: str) -> bool:
    names = directory.split("/")
    plain = not _CONTROL.search(directory) and ":" not in directory and ".." not in names
    return plain and directory.startswith(f"{HOME}/")


def _overlaps(outside: str) -> bool:
    """A directory of the session has the same path on the host."""
    return f"{outside}/".startswith(f"{HOME}/") or HOME.startswith(f"{outside}/")
