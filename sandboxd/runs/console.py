"""Console items out of spool records: merged, cut to what a response may hold. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..spool import STDERR, STDOUT, Record

Item = list[Any]
"""[type, data] as in the execution model: stdout, stderr (text) or log (four texts)."""

_TYPES = {STDOUT: "stdout", STDERR: "stderr"}


def log(level: str, message: str) -> Item:
    """A `log` item: sandboxd's own word in the console. `level`: warning or error."""
    return ["log", [level, datetime.now(UTC).isoformat(), "sandboxd", message]]


def text(items: list[Item]) -> str:
    """What a program printed, both streams in one, with sandboxd's words on lines of their own."""
    return "".join(f"[{data[3]}]\n" if kind == "log" else data for kind, data in items)


class Collector:
    """Takes the records of one response; keeps `limit` characters of each stream.

    Neighbours of the same type become one item. What is over the limit, and what fell out of
    the spool before it was read, is counted and told.
    """

    def __init__(self, limit: int) -> None:
        self._left = dict.fromkeys(_TYPES, limit)
        self._cut = dict.fromkeys(_TYPES, 0)
        self._lost = 0
        self._gap: int | None = None
        self._pieces: list[tuple[str, list[str]]] = []
        self._limit = limit

    def add(self, record: Record) -> None:
        """The next record; one of an unknown stream is none of the shim's and left out."""
        if record.lost:
            self._lost += record.lost
            if self._gap is None:
                self._gap = len(self._pieces)
        if record.stream not in _TYPES:
            return
        text = record.text[: self._left[record.stream]]
        self._left[record.stream] -= len(text)
        self._cut[record.stream] += len(record.text) - len(text)
        if text:
            self._append(_TYPES[record.stream], text)

    def _append(self, kind: str, text: str) -> None:
        apart = self._gap == len(self._pieces)  # a gap stays visible between neighbours
        if self._pieces and self._pieces[-1][0] == kind and not apart:
            self._pieces[-1][1].append(text)
        else:
            self._pieces.append((kind, [text]))

    def items(self) -> list[Item]:
        """Everything so far, with a log item where bytes are missing and one for each cut."""
        items: list[Item] = [[kind, "".join(texts)] for kind, texts in self._pieces]
        if self._gap is not None:
            text = f"{self._lost} bytes of output were dropped here: more than is kept of a run"
            items.insert(self._gap, log("warning", text))
        for stream, count in self._cut.items():
            if count:
                text = f"{count} characters of {_TYPES[stream]} were cut: a response holds "
                items.append(log("warning", f"{text}{self._limit}"))
        return items
