"""The output of `run` and `shell`: what the program prints, and beside it lines of sandboxd."""

from __future__ import annotations

import json
import sys
from typing import Any


class Reporter:
    """The printer of one command. With --json each event is one object on standard output."""

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self._quiet = quiet
        self._json = as_json

    def phase(self, text: str, **event: Any) -> None:
        """A step of sandboxd itself."""
        if self._json:
            self._line({"event": "phase", "text": text} | event)
        elif not self._quiet:
            print(f"sandboxd: {text}", file=sys.stderr, flush=True)

    def warning(self, text: str) -> None:
        """A line that is printed even with --quiet."""
        if self._json:
            self._line({"event": "log", "text": text})
        else:
            print(f"sandboxd: {text}", file=sys.stderr, flush=True)

    def console(self, kind: str, data: Any) -> None:
        """One console item."""
        if self._json:
            self._line({"event": "console", "type": kind, "data": data})
        elif kind in ("stdout", "stderr"):
            stream = sys.stdout if kind == "stdout" else sys.stderr
            stream.buffer.write(str(data).encode("utf-8", "surrogateescape"))
            stream.flush()
        elif kind == "log":
            self.warning(str(data[3]))

    def end(self, code: int) -> None:
        """The last event of --json."""
        if self._json:
            self._line({"event": "end", "exitCode": code})

    @staticmethod
    def _line(event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)
