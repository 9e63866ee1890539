"""The bounds of what results may bring to the user's folder: their names, and their bytes.

Programs of the host act on files of certain names: git on the hooks and the settings in .git, for
one. `--into` is by default the current directory. So names of version control arrive only if a
name of the command has them, as uploads leave them out, and a name that begins with a dot is at the
top of the folder only if the command names it with its dot, as wildcards of shells have it.

The bytes of sparse files and hard links count in full here, and hardly in the session. So results
have no more bytes than the file systems of the session. A file that several names of the command
bring counts once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from ...errors import NotFound, Unavailable
from ...files.globs import Pattern
from ...link_targets import Place
from ..connection.client import Client
from ..connection.references import folder_path
from .exclusion import VERSION_CONTROL

Refusal = tuple[Place, str]
"""The place that does not arrive, with all below it, and the reason."""


def refusal(matches: Iterable[str], place: Place) -> Refusal | None:
    """Why a member of the results does not arrive that `matches` of a request have brought, without
    any of them the whole directory; None: it arrives."""
    if not place[0].startswith(".") and not any(map(is_version_control, place)):
        return None
    patterns = [Pattern(text) for text in matches]
    names = [one.plain for one in patterns if _covers(one, place)] if patterns else [()]
    refusals = [_refusal(parts, place) for parts in names]
    return None if None in refusals else next(iter(refusals), (place, "has another name"))


def _refusal(named: tuple[str, ...], place: Place) -> Refusal | None:
    for count, part in enumerate(place, 1):
        if is_version_control(part) and part not in named:
            return place[:count], "belongs to version control, so only its own name fetches it"
    if place[0].startswith(".") and named and not named[0].startswith("."):
        return place[:1], "begins with a dot, so only a name with this dot fetches it"
    return None


def is_version_control(part: str) -> bool:
    """Programs of version control act on a file or directory of this name."""
    return part.lower() in VERSION_CONTROL  # some file systems know no small letters


def _covers(pattern: Pattern, place: Place) -> bool:
    """The pattern has brought the member: it fits it, or a directory above it or below it."""
    above = any(pattern.matches(place[:count]) for count in range(1, len(place) + 1))
    return above or pattern.may_match_below(place)


class Room:
    """The bytes that the results of a session may have, as far as they are not used."""

    def __init__(self, client: Client, session: str) -> None:
        self._client, self._session = client, session
        self._size: int | None = None
        self._used = 0
        self._sizes: dict[Place, int] = {}  # of each file so far

    def measure(self) -> None:
        """Look up the room, once; before the results come, which have a connection of their own."""
        if self._size is None:
            self._size = self._of_session()

    def take(self, place: Place, size: int) -> None:
        """Use `size` bytes for the file at a place in the session, without those that it has taken
        already. Raises Unavailable when the results have more than the session."""
        more = max(0, size - self._sizes.get(place, 0))
        if self._size and self._used + more > self._size:
            raise Unavailable(
                f"the results have more than the {self._size >> 20} MiB of the session's file "
                "systems, by sparse files or several names of a file: name fewer of them, or pack "
                "them in the session (tar -S)"
            )
        self._used += more
        self._sizes[place] = max(size, self._sizes.get(place, 0))

    def _of_session(self) -> int:
        """The bytes of its disk and its folders; 0: it works in a directory of the host, and fills
        this one as it likes."""
        sandbox: dict[str, Any] = self._client.call("GET", f"/session/{self._session}")["sandbox"]
        if sandbox["workspace"]:
            return 0
        size = int(sandbox["scratch"]["size"])
        for mount in sandbox["mounts"]:
            with contextlib.suppress(NotFound):  # it was removed
                size += int(self._client.call("GET", folder_path(mount["folder"]))["max_size"])
        return size
