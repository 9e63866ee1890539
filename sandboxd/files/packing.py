"""The pack request of the file helper: the entries below a directory that match, as one tar.

The tar is pax (POSIX.1-2017), with times as text, since a float loses nanoseconds. Names are
relative to the directory. Links stay links; one that leaves /home/work is left out. A link that a
pattern without wildcards names is followed, as in a download: a client that wants "latest" wants
its content. A first walk finds the patterns without a match and the entries that are left out,
since both are sent before the data.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from ..errors import Invalid, Refused
from .api_connection import ApiConnection
from .archive import ENTRIES_MAX, Left, Member, TarWriter, member_of
from .beneath import open_content, open_directory
from .globs import Pattern, patterns
from .links import LinkRule, real_place
from .paths import Name, absolute, inside, shown
from .walk import WalkEntry, walk

NAMED_MAX = 50
"""Entries left out that are named; further ones are only counted."""

NAMED_BYTES_MAX = 8 * 1024
"""Bytes of their names: with escapes, they fit a packet and a line of HTTP headers."""


def send_archive(api: ApiConnection, home: int, directory: str, match: list[str]) -> None:
    """Answer a pack request. Raises Refused."""
    parts = inside(directory)
    top = open_directory(home, parts)
    try:
        packing = _Packing(api, home, parts, top, patterns(match))
        named: list[list[str]] = []
        count, left = 0, NAMED_BYTES_MAX
        for item in packing.items():
            if isinstance(item, Left):
                count += 1
                left -= len(os.fsencode(item.path))
                if len(named) < NAMED_MAX and left >= 0:
                    named.append([item.path, item.kind])
        unmatched = [pattern.text for pattern in packing.unmatched]
        api.answer({"ok": True, "unmatched": unmatched, "left_out": named, "left_out_count": count})
        tar = TarWriter(api, exact=True)
        # With all steps of the patterns again: it cannot be refused any more.
        for item in _Packing(api, home, parts, top, patterns(match)).items():
            if isinstance(item, Member):
                tar.add(item)
        tar.end()
        api.answer({"end": True})
    finally:
        os.close(top)


class _Packing:
    """The entries of one request: those below the directory `top`, called `parts`, that match."""

    def __init__(
        self, api: ApiConnection, home: int, parts: Name, top: int, wanted: list[Pattern]
    ) -> None:
        self._api = api
        self._home, self._parts, self._top, self._wanted = home, parts, top, wanted
        self.unmatched = list(wanted)
        # "DIRECTORY/" of the matching directory that the walk is in
        self._taken = "" if wanted else "/"
        self._count = 0

    def items(self) -> Iterator[Member | Left]:
        """All members, and the entries that are left out; once. Raises Invalid for too many
        entries, or too much work with the patterns."""
        rule = LinkRule(self._home)
        place = real_place(self._home, self._parts) or self._parts
        for entry in self._walk(self._top, "", self._enters):
            fitting = self._note(entry)
            if not fitting and not self._is_taken(entry.path):
                continue
            is_named = any(pattern.is_plain for pattern in fitting)
            for item in _checked(entry, rule, place):
                if is_named and isinstance(item, Member) and item.target:
                    yield from self._followed(item, rule)
                else:
                    yield item

    def _walk(self, top: int, prefix: str, enter: Callable[[str], bool]) -> Iterator[WalkEntry]:
        """As `walk`, for a bounded number of entries in all."""
        for entry in self._api.while_there(walk(top, prefix, enter)):
            self._count += 1
            if self._count > ENTRIES_MAX:
                raise Invalid(f"{shown(absolute(self._parts))} has more than {ENTRIES_MAX} entries")
            yield entry

    def _is_taken(self, path: str) -> bool:
        """A pattern fits a directory above `path`."""
        return not self._wanted or (bool(self._taken) and path.startswith(self._taken))

    def _enters(self, path: str) -> bool:
        name = tuple(path.split("/"))
        return self._is_taken(path) or any(
            pattern.matches(name) or pattern.may_match_below(name) for pattern in self._wanted
        )

    def _note(self, entry: WalkEntry) -> list[Pattern]:
        """Note the patterns that fit `entry`, and return them."""
        name = tuple(entry.path.split("/"))
        fitting = [pattern for pattern in self._wanted if pattern.matches(name)]
        self.unmatched = [pattern for pattern in self.unmatched if pattern not in fitting]
        if fitting and not self._is_taken(entry.path):
            self._taken = f"{entry.path}/"
        return fitting

    def _followed(self, link: Member, rule: LinkRule) -> Iterator[Member | Left]:
        """The content of the link, under its name; the link itself if it leads to nothing."""
        name = (*self._parts, *link.path.split("/"))
        try:
            fd = open_content(self._home, name)
            place = real_place(self._home, name)
        except Refused:
            yield link
            return
        try:
            status = os.fstat(fd)
            is_file = stat.S_ISREG(status.st_mode)
            yield Member(link.path, status, fd if is_file else None)
            if not is_file:
                prefix = f"{link.path}/"
                for entry in self._walk(fd, prefix, lambda _: True):
                    yield from _checked(entry, rule, place or name, prefix)
        finally:
            os.close(fd)


def _checked(
    entry: WalkEntry, rule: LinkRule, place: Name, prefix: str = ""
) -> Iterator[Member | Left]:
    """The items for an entry of the walk through the directory `place`; its path begins with
    `prefix`. A link that leaves /home/work is left out."""
    for item in member_of(entry):
        if isinstance(item, Member) and item.target:
            name = (*place, *entry.path.removeprefix(prefix).split("/"))
            if rule.leaves(name, item.target):
                yield Left(entry.path, "outside")
                continue
        yield item
