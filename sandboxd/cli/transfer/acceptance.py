"""The bounds of what results may bring to the user's folder: their names, and their bytes.

Programs of the host act on files of certain names: git on the hooks and the settings in .git, for
one. `--into` is by default the current directory. So names of version control arrive only if a
name of the command has them, as uploads leave them out, and a name that begins with a dot is at the
top of the folder only if the command names it with its dot, as wildcards of shells have it.

git takes a directory of any name for a repository that has HEAD, objects and refs, or HEAD and
commondir, and runs programs that its settings name. So HEAD and one of the others come together
only into a directory that a name of the command names, and whose name ends in .git.

The bytes of sparse files and hard links count in full here, and hardly in the session. So results
have no more bytes than the file systems of the session. A file that several names of the command
bring counts once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from ...errors import NotFound, Unavailable
from ...files.globs import Pattern
from ...link_targets import Place
from ..connection.client import Client
from ..connection.references import folder_path
from .exclusion import VERSION_CONTROL

Refusal = tuple[Place, str]
"""The place that does not arrive, with all below it, and the reason."""

HEAD = "HEAD"
_FORM = {HEAD.lower(): ("refs", "commondir"), "refs": (HEAD,), "commondir": (HEAD,)}
"""Entries of a repository of git, and those beside which they complete its form."""

COMPLETES = (
    "would make its directory a repository of git, so only a name that ends in .git fetches it"
)
"""The reason why such an entry does not arrive."""


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


def is_head(part: str) -> bool:
    """Some file system of the host may take this name for HEAD."""
    return part.lower() == HEAD.lower()


def completes_repository(part: str, is_there: Callable[[str], bool]) -> bool:
    """With an entry of this name, git takes a directory for a repository; `is_there` says whether
    the directory has an entry of another name, HEAD as a file or a link."""
    return any(map(is_there, _FORM.get(part.lower(), ())))


def is_repository_named(matches: Iterable[str], place: Place) -> bool:
    """A name of the request names a directory that ends in .git, and the member at `place` is below
    it."""
    if not any(part.lower().endswith(".git") for part in place[:-1]):
        return False
    names = {part for one in map(Pattern, matches) if _covers(one, place) for part in one.plain}
    return any(part.lower().endswith(".git") and part in names for part in place[:-1])


def _covers(pattern: Pattern, place: Place) -> bool:
    """The pattern has brought the member: it fits it, or a directory above it or below it."""
    above = any(pattern.matches(place[:count]) for count in range(1, len(place) + 1))
    return above or pattern.may_match_below(place)


class Room:
    """The bytes that results may have, as far as they are not used."""

    def __init__(self, look_up: Callable[[], int], words: str) -> None:
        """`look_up` finds their number, 0 for no bound; it is that of `words`, for a message."""
        self._look_up, self._words = look_up, words
        self._size: int | None = None
        self._used = 0
        self._sizes: dict[Place, int] = {}  # of each file so far

    @classmethod
    def of_session(cls, client: Client, session: str) -> Room:
        """That of the results of a session: its disk and its folders. There is none where it works
        in a directory of the host, and fills this one as it likes."""
        words = "session's file systems, by sparse files or several names of a file: name fewer of "
        words += "them, or pack them in the session (tar -S)"
        return cls(lambda: _bytes_of_session(client, session), words)

    @classmethod
    def of_folder(cls, client: Client, name: str) -> Room:
        """That of the files of a virtual folder: its size."""
        words = "folder, by sparse files or several names of a file: copy parts of them, or pack "
        words += "them in a session (tar -S)"
        return cls(lambda: _bytes_of_folder(client, name), words)

    def measure(self) -> None:
        """Look up the room, once; before the results come, which have a connection of their own."""
        if self._size is None:
            self._size = self._look_up()

    def take(self, place: Place, size: int) -> None:
        """Use `size` bytes for the file at a place, without those that it has taken already. Raises
        Unavailable when the results have more than there is room for."""
        more = max(0, size - self._sizes.get(place, 0))
        if self._size and self._used + more > self._size:
            raise Unavailable(
                f"the results have more than the {self._size >> 20} MiB of the {self._words}"
            )
        self._used += more
        self._sizes[place] = max(size, self._sizes.get(place, 0))


def _bytes_of_session(client: Client, session: str) -> int:
    sandbox: dict[str, Any] = client.call("GET", f"/session/{session}")["sandbox"]
    if sandbox["workspace"]:
        return 0
    size = int(sandbox["scratch"]["size"])
    for mount in sandbox["mounts"]:
        with contextlib.suppress(NotFound):  # it was removed
            size += _bytes_of_folder(client, mount["folder"])
    return size


def _bytes_of_folder(client: Client, name: str) -> int:
    return int(client.call("GET", folder_path(name))["max_size"])
