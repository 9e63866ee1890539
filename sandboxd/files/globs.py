"""Patterns for names below a directory, as shells and .gitignore have them.

A pattern has components joined by "/": "*" and "?" stand for characters of one component, "[...]"
for one of several characters, and the component "**" for any number of directories. A pattern is
also a plain name: "a[1].txt" means the file of that name, too.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re

from ..errors import Invalid
from .paths import DEPTH_MAX, Name, inside, shown

PATTERNS_MAX = 256
"""Patterns of one request."""

PATTERNS_BYTES_MAX = 8 * 1024
"""Bytes of all patterns of one request: those without a match are repeated in a header."""

WILDCARDS_MAX = 8
"""Components "**" of one pattern: each multiplies the work."""


class Pattern:
    """One pattern; `text` as the client wrote it. `is_plain`: it has no wildcard."""

    def __init__(self, text: str) -> None:
        """Raises Invalid for a pattern that leaves its directory."""
        self.text = text
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if text.startswith("/") or ".." in parts:
            raise Invalid(
                f"{shown(text)} leaves the directory; allowed: patterns of names below it"
            )
        if not parts:
            raise Invalid(
                f"the pattern {shown(text)} names nothing; without a pattern, all is meant"
            )
        if len(parts) > DEPTH_MAX:
            raise Invalid(f"the pattern {shown(text)} has more than {DEPTH_MAX} components")
        if parts.count("**") > WILDCARDS_MAX:
            raise Invalid(f"the pattern {shown(text)} has more than {WILDCARDS_MAX} components **")
        inside("/".join(parts))  # raises Invalid for a text that no name can have
        self.plain = tuple(parts)
        self.is_plain = not re.search(r"[*?[]", text)
        self._parts = [None if part == "**" else _component(part) for part in parts]

    def matches(self, name: Name) -> bool:
        """The pattern fits the whole of `name`."""
        return name == self.plain or self._fits(name, whole=True)

    def may_match_below(self, name: Name) -> bool:
        """The pattern may fit a name below the directory `name`."""
        return name == self.plain[: len(name)] or self._fits(name, whole=False)

    def _fits(self, name: Name, whole: bool) -> bool:
        """The pattern fits `name`, or some name that begins so."""
        # The positions in the pattern that can have been reached, as in a state machine.
        states = self._closed({0})
        for component in name:
            following = set()
            for state in states:
                if state == len(self._parts):
                    continue
                part = self._parts[state]
                if part is None:
                    following.add(state)
                elif part.fullmatch(component):
                    following.add(state + 1)
            states = self._closed(following)
        if whole:
            return len(self._parts) in states
        return any(state < len(self._parts) for state in states)

    def _closed(self, states: set[int]) -> set[int]:
        """`states`, with those that "**" for no directory leads to."""
        for state in sorted(states):
            while state < len(self._parts) and self._parts[state] is None:
                state += 1
                states.add(state)
        return states


def patterns(texts: list[str]) -> list[Pattern]:
    """The patterns of a request. Raises Invalid."""
    if len(texts) > PATTERNS_MAX:
        raise Invalid(f"at most {PATTERNS_MAX} patterns are allowed, not {len(texts)}")
    wanted = [Pattern(text) for text in dict.fromkeys(texts)]
    if sum(len(os.fsencode(pattern.text)) for pattern in wanted) > PATTERNS_BYTES_MAX:
        raise Invalid(f"all patterns have at most {PATTERNS_BYTES_MAX} bytes")
    return wanted


@functools.lru_cache(1024)
def _component(text: str) -> re.Pattern[str]:
    # Several stars in a row mean one. Without this, they would cost time without end.
    return re.compile(fnmatch.translate(re.sub(r"\*+", "*", text)), re.DOTALL)
