"""A streamed multipart/form-data body (RFC 7578) as a sequence of small events. No I/O.

    parser = UploadParser(content_type)
    parser.feed(piece)      for each piece of the body; its events, FileStart or bytes
    parser.end()            at the end of the body

File names come in several spellings: raw bytes, quoted with backslashes (RFC 9110), as
filename* (RFC 8187), and wholly percent-encoded by Backend.AI's client; all end up as one text,
in which lone surrogates stand for bytes that are not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from ...errors import Invalid
from .route import Content

CONTENT = Content(
    ("multipart/form-data",),
    "Files, each with its `filename` below /home/work. The part header X-Sandboxd-Mode: 755 makes "
    "a file executable.",
)

BOUNDARY_MAX = 70
"""Characters of a boundary (RFC 2046, section 5.1.1)."""

HEADER_MAX = 16 * 1024
"""Bytes of a part's header: a path of 4095 bytes fits, percent-encoded."""

MODE_HEADER = b"x-sandboxd-mode"
_MODES = {b"": 0o644, b"644": 0o644, b"755": 0o755}

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rb';\s*(%b)=(?:"((?:[^"\\]|\\.)*)"|([^";]*))' % _TOKEN, re.DOTALL)
_QUOTED_PAIR = re.compile(rb'\\(["\\])')


@dataclass(frozen=True, slots=True)
class FileStart:
    """A part: the name that the client gave its file, the permissions that the file gets. A part
    that is no file has its own name as `field`."""

    name: str
    mode: int
    field: str = ""


class UploadParser:
    """Parses one body. Raises Invalid for a malformed body, or a part that is no file and not one
    of `fields`."""

    def __init__(self, content_type: bytes, fields: Container[str] = ()) -> None:
        self._fields = fields
        self._events: list[FileStart | bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._ended = False
        self._parser = MultipartParser(
            boundary(content_type),
            {
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_end": self._on_end,
            },
            max_header_size=HEADER_MAX,
        )

    def feed(self, piece: bytes) -> list[FileStart | bytes]:
        """The events of the next bytes: a file begins, or some of its content."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise Invalid("Malformed multipart body") from None
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """The body is over. Raises Invalid when its last boundary has not come."""
        if not self._ended:
            raise Invalid("Malformed multipart body: it ends before its last boundary")

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value.strip()
        self._name = self._value = b""

    def _on_headers(self) -> None:
        headers, self._headers = self._headers, {}
        disposition = headers.get(b"content-disposition", b"")
        field = _parameters(disposition).get(b"name", b"").decode("utf-8", "surrogateescape")
        name = "" if field in self._fields else filename(disposition)
        if name is None:
            raise Invalid("each part of an upload must be a file with a filename")
        mode = _MODES.get(headers.get(MODE_HEADER, b""))
        if mode is None:
            raise Invalid("X-Sandboxd-Mode is 644 or 755")
        self._events.append(FileStart(name, mode, field if field in self._fields else ""))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_end(self) -> None:
        self._ended = True


def boundary(content_type: bytes) -> bytes:
    """The boundary of a multipart/form-data Content-Type. Raises Invalid."""
    if content_type.partition(b";")[0].strip().lower() != b"multipart/form-data":
        raise Invalid("an upload is multipart/form-data")
    value = _parameters(content_type).get(b"boundary", b"")
    if not 1 <= len(value) <= BOUNDARY_MAX:
        raise Invalid(f"multipart/form-data needs a boundary of 1 to {BOUNDARY_MAX} characters")
    return value


def filename(disposition: bytes) -> str | None:
    """The file name in a Content-Disposition header; None when it names no file."""
    parameters = _parameters(disposition)
    extended = parameters.get(b"filename*", b"").split(b"'", 2)
    if len(extended) == 3 and extended[0].lower() == b"utf-8":
        return unquote_to_bytes(extended[2]).decode("utf-8", "surrogateescape")
    raw = parameters.get(b"filename")
    if raw is None:
        return None
    name = raw.decode("utf-8", "surrogateescape")
    # decoded only if its percent-encoding gives the same: else no file could be called a%20b
    decoded = unquote(name, errors="surrogateescape")
    return decoded if quote(decoded, safe="", errors="surrogateescape") == name else name


def _parameters(header: bytes) -> dict[bytes, bytes]:
    """The parameters after the first `;`, unquoted. Of those with one name the first counts."""
    values: dict[bytes, bytes] = {}
    for name, quoted, plain in _PARAMETER.findall(header):
        values.setdefault(name.lower(), _QUOTED_PAIR.sub(rb"\1", quoted) or plain.strip())
    return values
