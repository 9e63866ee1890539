"""The progress of a benchmark: one line on a terminal, which the next one replaces."""

from __future__ import annotations

import sys

_CLEAR = "\r\033[K"


class Progress:
    """Shows the current step on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._draws = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._draws:
            print(f"{_CLEAR}{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line."""
        if self._draws:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
