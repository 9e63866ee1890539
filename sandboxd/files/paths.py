"""The rules for a client's names below /home/work. Pure text, no I/O.

A name is relative to /home/work or absolute below it. It becomes the tuple of its components.
Empty components and "." are left out, and ".." removes the component before it, as text: "a/../b"
is "b" whether or not "a" exists, and even if "a" is a link. A name must not leave /home/work at any
point of its way, not even to return. So the names that the kernel resolves (beneath.py) have plain
components only, and a ".." can only come from a link.

Names are texts of os.fsdecode: a name that is not UTF-8 has lone surrogates.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..errors import Invalid, OutsideHome
from ..model import HOME

Name = tuple[str, ...]
"""The components of a name below /home/work."""

COMPONENT_MAX = 255
"""Bytes of one component: NAME_MAX of limits.h."""

NAME_MAX = 4095
"""Bytes of a whole name: PATH_MAX of limits.h without the NUL."""

DEPTH_MAX = 256
"""Components of a name."""

_ROOT = tuple(HOME.split("/")[1:])
_SHOWN = 120


def inside(name: str) -> Name:
    """The components of `name` below /home/work; () is /home/work itself.

    Raises OutsideHome for a name that leaves /home/work, Invalid for a text that is no name.
    """
    parts = [part for part in _canonical(name).split("/") if part not in ("", ".")]
    if len(parts) > DEPTH_MAX:
        raise Invalid(f"{shown(name)}: a name has at most {DEPTH_MAX} components")
    if name.startswith("/"):
        if tuple(parts[: len(_ROOT)]) != _ROOT:
            raise _outside(name)
        parts = parts[len(_ROOT) :]
    return _without_parents(name, parts)


def naming_file(name: str) -> Name:
    """As `inside`, for the name of a file.

    Raises Invalid also for a text that ends in "/", "." or "..", and for /home/work itself.
    """
    parts = inside(name)
    if not parts or name.rpartition("/")[2] in ("", ".", ".."):
        raise Invalid(f"{shown(name)} is no file's name; it must end in the name of the file")
    return parts


def colliding(names: Iterable[Name]) -> Name | None:
    """A name among `names` that is also a parent directory of another of them; None: there is no
    such name."""
    files = set(names)
    for name in files:
        for length in range(1, len(name)):
            if name[:length] in files:
                return name[:length]
    return None


def absolute(parts: Name) -> str:
    """The absolute name of `parts`, as programs see it."""
    return "/".join((HOME, *parts))


def relative(parts: Name) -> str:
    """The name of `parts` relative to a descriptor of /home/work."""
    return "/".join(parts) or "."


def shown(name: str) -> str:
    """`name` for a message: quoted, in printable characters, not too long."""
    return ascii(name if len(name) <= _SHOWN else name[:_SHOWN] + "...")


def _canonical(name: str) -> str:
    """`name` after checks of the whole text. Texts that stand for the same bytes become equal."""
    try:
        data = os.fsencode(name)
    except UnicodeEncodeError:
        raise Invalid(f"{shown(name)} has a character that no file name can have") from None
    if not data:
        raise Invalid("a name is empty")
    if b"\0" in data:
        raise Invalid(f"{shown(name)}: a name has no NUL character")
    if len(data) > NAME_MAX:
        raise Invalid(f"{shown(name)}: a name has at most {NAME_MAX} bytes")
    if max(map(len, data.split(b"/"))) > COMPONENT_MAX:
        raise Invalid(f"{shown(name)}: a component has at most {COMPONENT_MAX} bytes")
    return os.fsdecode(data)


def _without_parents(name: str, parts: list[str]) -> Name:
    """`parts` after each ".." has removed the component before it. Raises OutsideHome where there
    is none."""
    plain: list[str] = []
    for part in parts:
        if part != "..":
            plain.append(part)
        elif plain:
            plain.pop()
        else:
            raise _outside(name)
    return tuple(plain)


def _outside(name: str) -> OutsideHome:
    return OutsideHome(f"{shown(name)} is outside {HOME}; allowed: relative names, or {HOME}/...")
