"""The framing of a body in chunks (RFC 9112, 7.1), which goes on as it has come. No I/O.

    body = size CRLF *( chunk CRLF size CRLF ) *( field CRLF ) CRLF

The last size is 0. Lines are read strictly, so that no reader behind the broker can take another
place for the end: no bare CR or LF, no other spelling of a size, no line without an end.
"""

from __future__ import annotations

import re

from ..errors import Invalid

TEXT_MAX = 4096
"""Bytes of the extensions of a chunk, which follow its size, and of the value of a field."""

FIELDS_MAX = 64
"""Lines behind the last size."""

_TEXT = rb"[\t\x20-\x7e\x80-\xff]{0,%d}" % TEXT_MAX
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;" + _TEXT + rb"|[\t ]{0,16})\r\n")
_CHUNK_END = re.compile(rb"\r\n")
_FIELD = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}:" + _TEXT + rb")?\r\n")
_ENDINGS = (b"\n", b"\r\n", b"0\r\n", b":\r\n")
"""One of them makes a line of the beginning of a line."""


class ChunkedBody:
    """A body that is read piece by piece.

    left     bytes of the present chunk that are still to come
    is_over  the body has come to its end
    """

    def __init__(self) -> None:
        self.left = 0
        self.is_over = False
        self._line = _SIZE
        self._fields = 0

    def read(self, data: bytearray, size: int) -> int:
        """Read the first `size` bytes of `data`. Returns the number of those that may go on: up to
        the end of the body, and without the beginning of a line, which comes again in front of the
        next bytes. Raises Invalid for what is no body in chunks."""
        at = 0
        while not self.is_over:
            at, self.left = at + self.left, 0
            if at > size:
                self.left = at - size
                return size
            line = self._line.match(data, at, size)
            if line is None:
                self._check_beginning(data[at:size])
                break
            at = line.end()
            if self._line is _CHUNK_END:
                self._line = _SIZE
            elif self._line is _SIZE:
                self.left = int(line[1], 16)
                self._line = _CHUNK_END if self.left else _FIELD
            else:
                self.is_over = line[0] == b"\r\n"
                self._fields += 1
                if self._fields > FIELDS_MAX:
                    raise Invalid("its trailer is too long")
        return at

    def _check_beginning(self, beginning: bytearray) -> None:
        if not any(self._line.fullmatch(beginning + ending) for ending in _ENDINGS):
            raise Invalid("its body in chunks has a wrong line")
