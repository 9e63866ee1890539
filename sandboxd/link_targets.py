"""The resolution of links in a tree, as text, for trees that another person or program has written.

`resolve` follows a target through all links on its way, as the kernel would, but never above the
top of the tree. Uploads use it with the links on the disk, and the unpacking of results with the
links of the archive too.

A ".." behind a name is the danger: `p/q/r/l/../../secret` is `p/q/secret` as text, and another
place when `l` is a link. So only a name that is resolved first is climbed from.
"""

from __future__ import annotations

from collections.abc import Callable

Place = tuple[str, ...]
"""The components of a name below the top of a tree."""

Lookup = Callable[[Place], str | None]
"""The target of the link at a place; None: there is no link. Raises FileNotFoundError when the
place is empty."""

LINKS_MAX = 40
"""The kernel follows as many links in one name (path_resolution(7))."""


class TooManyLinks(Exception):
    """The target leads through too many links. The kernel never resolves it either."""


def resolve(start: Place, target: str, lookup: Lookup) -> Place | None:
    """The place of `target`, a relative text of a link in the directory `start`; None: it leaves
    the tree, or climbs from a place that does not exist. Raises TooManyLinks."""
    place = list(start)
    todo = target.split("/")[::-1]
    links, missing = 0, False
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not place or missing:
                return None
            place.pop()
            continue
        place.append(part)
        try:
            inner = None if missing else lookup(tuple(place))
        except FileNotFoundError:
            missing = True
            continue
        if inner is None:
            continue
        links += 1
        if links > LINKS_MAX:
            raise TooManyLinks(target)
        if inner.startswith("/"):
            return None
        place.pop()
        todo.extend(inner.split("/")[::-1])
    return tuple(place)


def below(target: str, top: str) -> str | None:
    """The rest of the absolute `target` behind the directory `top`; None: it is elsewhere."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    above = [part for part in top.split("/") if part]
    return "/".join(parts[len(above) :]) if parts[: len(above)] == above else None


def relative(start: Place, rest: str) -> str:
    """The relative target, for a link in the directory `start`, of `rest` below the top."""
    return "/".join([*[".."] * len(start), *([rest] if rest else [])]) or "."


def climbs_first(target: str) -> bool:
    """Every ".." of `target` comes before its first name. Such a link stays where it leads to,
    whatever becomes of the places on its way."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    names = [number for number, part in enumerate(parts) if part != ".."]
    return not names or ".." not in parts[names[0] :]
