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

STEPS_MAX = 100_000_000
"""Components that the patterns of one request may be compared with: about half a minute. The
patterns allowed above would keep the helper busy for hours in a tree of many deep directories."""

_STEP = 256
"""The product of two lengths, a pattern's component and a name's, that counts as a further step:
"*aaaab*" and "aaaa" are compared at each character."""


class MatchSteps:
    """The steps that all patterns of one request have taken."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, count: int) -> None:
        """Count further steps. Raises Invalid for too many."""
        self._count += count
        if self._count > STEPS_MAX:
            raise Invalid(
                "the patterns are too much work for so many names; name a directory further "
                "below, use fewer patterns, or use fewer components **"
            )


class Pattern:
    """One pattern; `text` as the client wrote it. `is_plain`: it has no wildcard."""

    def __init__(self, text: str, steps: MatchSteps | None = None) -> None:
        """Raises Invalid for a pattern that leaves its directory. `steps` counts its work."""
        self.text = text
        self._steps = steps or MatchSteps()
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
        self._directory: Name = ()
        self._states = self._closed({0})

    def matches(self, name: Name) -> bool:
        """The pattern fits the whole of `name`. Raises Invalid when the steps are too many."""
        return name == self.plain or self._fits(name, whole=True)

    def may_match_below(self, name: Name) -> bool:
        """The pattern may fit a name below the directory `name`. Raises as `matches`."""
        return name == self.plain[: len(name)] or self._fits(name, whole=False)

    def _fits(self, name: Name, whole: bool) -> bool:
        """The pattern fits `name`, or some name that begins so."""
        states = self._behind(self._inside(name[:-1]), name[-1])
        if whole:
            return len(self._parts) in states
        return any(state < len(self._parts) for state in states)

    def _inside(self, directory: Name) -> set[int]:
        """The positions in the pattern that `directory` leads to, as in a state machine. Those of
        the last one are remembered, since the entries of a directory come together."""
        if directory != self._directory:
            states = self._closed({0})
            for component in directory:
                states = self._behind(states, component)
            self._directory, self._states = directory, states
        return self._states

    def _behind(self, states: set[int], component: str) -> set[int]:
        """The positions that a component leads to from `states`."""
        if not states:
            return states
        following, steps = set(), 1
        for state in states:
            if state == len(self._parts):
                continue
            steps += 1
            part = self._parts[state]
            if part is None:
                following.add(state)
                continue
            steps += len(self.plain[state]) * len(component) // _STEP
            if part.fullmatch(component):
                following.add(state + 1)
        self._steps.add(steps)
        return self._closed(following)

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
    steps = MatchSteps()
    wanted = [Pattern(text, steps) for text in dict.fromkeys(texts)]
    if sum(len(os.fsencode(pattern.text)) for pattern in wanted) > PATTERNS_BYTES_MAX:
        raise Invalid(f"all patterns have at most {PATTERNS_BYTES_MAX} bytes")
    return wanted


@functools.lru_cache(1024)
def _component(text: str) -> re.Pattern[str]:
    # Several stars in a row mean one. Without this, they would cost time without end.
    return re.compile(fnmatch.translate(re.sub(r"\*+", "*", text)), re.DOTALL)
