"""Console items out of spool records: merged, and cut to the size of a response. No I/O."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ..spool import STDERR, STDOUT, Record

Item = list[Any]
"""[type, data] as in the execution model: stdout, stderr (text) or log (four texts)."""

FRAME = 640 * 1024
"""Bytes of console text in one frame, as JSON in ASCII; with everything else a frame stays below
1 MiB. Clients take 4 MiB at most, and some less."""

_ITEM = 20
"""Bytes that an item takes besides its text."""

_TYPES = {STDOUT: "stdout", STDERR: "stderr"}


def log(level: str, message: str) -> Item:
    """A `log` item: a message of sandboxd in the console. `level`: info, warning or error."""
    return ["log", [level, datetime.now(UTC).isoformat(), "sandboxd", message]]


def text(items: list[Item]) -> str:
    """The output of a program, both streams in one; messages of sandboxd have their own lines."""
    return "".join(f"[{data[3]}]\n" if kind == "log" else data for kind, data in items)


class Collector:
    """Takes the records of one response; keeps `limit` characters of each stream.

    Neighbours of the same type become one item. Text over the limit, and text that fell out of
    the spool before it was read, is counted, and log items say how much it was.
    """

    def __init__(self, limit: int) -> None:
        self._left = dict.fromkeys(_TYPES, limit)
        self._cut = dict.fromkeys(_TYPES, 0)
        self._lost = 0
        self._gap: int | None = None
        self._pieces: list[tuple[str, list[str]]] = []
        self._limit = limit

    def add(self, record: Record) -> bool:
        """Take the next record; False: there is no room, it is for the next response. A record of
        an unknown stream is left out: the shim has not written it."""
        if record.lost:
            self._lost += record.lost
            if self._gap is None:
                self._gap = len(self._pieces)
        if record.stream not in _TYPES:
            return True
        text = record.text[: self._left[record.stream]]
        self._left[record.stream] -= len(text)
        self._cut[record.stream] += len(record.text) - len(text)
        if text:
            self._append(_TYPES[record.stream], text)
        return True

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


class FrameCollector(Collector):
    """Takes the records of one frame, as many as there is room for; none is cut."""

    def __init__(self) -> None:
        super().__init__(FRAME)
        self._room = FRAME

    def add(self, record: Record) -> bool:
        """Take the next record; False: there is no room, it is for the next frame."""
        size = len(json.dumps(record.text)) + _ITEM
        if size > self._room:
            return False
        self._room -= size
        return super().add(record)
