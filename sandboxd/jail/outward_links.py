"""Symbolic links of the visible directories that lead out of them, into /etc or /var/lib.

Packages that keep their configuration below /etc often have a link to it below /usr.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator

DEPTH = 5
"""The quick search reads /usr, /usr/lib, /usr/lib/R, /usr/lib/R/etc and one directory deeper. All
of /usr has ten times as many directories; `sandboxd doctor` searches them all."""

DOCUMENTS = (
    "/usr/include", "/usr/lib/firmware", "/usr/lib/modules", "/usr/share/doc", "/usr/share/help",
    "/usr/share/icons", "/usr/share/locale", "/usr/share/man", "/usr/src",
)  # fmt: skip
"""Large directories in which the search looks for no links."""

ALL = 100
"""More directories than a path has."""

_leads_out = re.compile("/(?:etc|var|opt|srv)/").search


def is_below(path: str, places: Iterable[str]) -> bool:
    """`path` is one of `places`, or below one."""
    return any(path == place or path.startswith(f"{place}/") for place in places)


def links_out(directories: Iterable[str], root: str = "", depth: int = ALL) -> Iterator[str]:
    """The symbolic links below `directories` that lead out of /usr, by their text; at most in the
    `depth`th directory, and then not among DOCUMENTS."""
    for directory in directories:
        if not os.path.islink(root + directory):
            yield from _links_below(root + directory, len(root), depth)


def _links_below(directory: str, prefix: int, depth: int) -> Iterator[str]:
    try:
        entries = os.scandir(directory)
    except OSError:  # not on this host, or removed meanwhile
        return
    with entries:
        for entry in entries:
            if entry.is_symlink():
                if _leads_out(_text(entry.path)):
                    yield entry.path[prefix:]
            elif (
                depth > 1
                and entry.is_dir(follow_symlinks=False)
                and (depth > DEPTH or entry.path[prefix:] not in DOCUMENTS)
            ):
                yield from _links_below(entry.path, prefix, depth - 1)


def _text(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:  # removed meanwhile
        return ""


def hidden_links(
    directories: Iterable[str], shown: Iterable[str], is_secret: Callable[[str], bool]
) -> dict[str, str]:
    """Links below the visible `directories` that lead, in a jail, to nothing: link -> target.

    A target that does not exist on the host, or that others than root may not read, is no mistake.
    """
    directories, places = tuple(directories), {*directories, *shown}
    hidden = {}
    for path in links_out(directories):
        target = os.path.realpath(path)
        above = (target, *_parents(target))
        if places.isdisjoint(above) and not is_secret(target) and _is_open_to_all(target):
            hidden[path] = target
    return hidden


def _is_open_to_all(path: str) -> bool:
    """Everybody may read the file, or enter the directory, and all directories above it."""
    try:
        last = os.stat(path).st_mode
        above = [os.stat(place).st_mode for place in _parents(path)]
    except OSError:
        return False
    needed = stat.S_IXOTH if stat.S_ISDIR(last) else stat.S_IROTH
    return bool(last & needed) and all(mode & stat.S_IXOTH for mode in above)


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path
