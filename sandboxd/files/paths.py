"""Which names below /home/work a client may use. Pure text, no I/O.

A name is relative to /home/work or absolute below it. It becomes the tuple of its components;
empty ones and "." vanish, ".." takes the component before it away, as text: "a/../b" is "b"
whether or not there is an "a", and even where "a" is a link. A name must not leave /home/work
at any point on its way, not even to come back. So what the kernel is asked to resolve
(beneath.py) holds plain components only, and the ".." in it can only come from links.

Text is what os.fsdecode makes of bytes: a name that is no UTF-8 has lone surrogates.
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

    Raises OutsideHome for a name that leaves /home/work, Invalid for one that is no name.
    """
    given = [part for part in _canonical(name).split("/") if part not in ("", ".")]
    if len(given) > DEPTH_MAX:
        raise Invalid(f"{shown(name)}: a name has at most {DEPTH_MAX} components")
    if name.startswith("/"):
        if tuple(given[: len(_ROOT)]) != _ROOT:
            raise _outside(name)
        given = given[len(_ROOT) :]
    return _resolved(name, given)


def naming_file(name: str) -> Name:
    """As `inside`, for a name that has to be a file's.

    Raises Invalid as well where the text ends in "/", "." or "..", or is /home/work itself.
    """
    parts = inside(name)
    if not parts or name.rpartition("/")[2] in ("", ".", ".."):
        raise Invalid(f"{shown(name)} names no file; a name ends in the file's own name")
    return parts


def colliding(names: Iterable[Name]) -> Name | None:
    """A name that would be a file and, for another of `names`, a directory; None without one."""
    files = set(names)
    for name in files:
        for length in range(1, len(name)):
            if name[:length] in files:
                return name[:length]
    return None


def absolute(parts: Name) -> str:
    """The name of `parts` as programs see it."""
    return "/".join((HOME, *parts))


def relative(parts: Name) -> str:
    """The name of `parts` for a call relative to a descriptor of /home/work."""
    return "/".join(parts) or "."


def shown(name: str) -> str:
    """`name` for a message: quoted, in printable characters, not too long."""
    return ascii(name if len(name) <= _SHOWN else name[:_SHOWN] + "...")


def _canonical(name: str) -> str:
    """`name` checked as a whole; of the texts that stand for the same bytes always the same."""
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
        raise Invalid(f"{shown(name)}: between slashes at most {COMPONENT_MAX} bytes are allowed")
    return os.fsdecode(data)


def _resolved(name: str, given: list[str]) -> Name:
    """`given` without "..", provided that it never leaves."""
    parts: list[str] = []
    for part in given:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise _outside(name)
    return tuple(parts)


def _outside(name: str) -> OutsideHome:
    return OutsideHome(f"{shown(name)} is outside {HOME}; allowed: relative names, or {HOME}/...")
