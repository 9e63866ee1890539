"""The byte range of a request (RFC 9110, section 14). No I/O.

One range of bytes is served. Several ranges, other units and malformed values are ignored, as the
RFC allows: then the response has the whole file.
"""

from __future__ import annotations

import re

from .route import Header

HEADERS = (
    Header("Range", "one range, such as bytes=0-99; other ranges are ignored", {"type": "string"}),
    Header("If-Range", "the Last-Modified of an earlier response", {"type": "string"}),
)
ANSWER = {
    "Accept-Ranges": "bytes",
    "Last-Modified": "the time of the last change of the file",
    "Content-Disposition": "attachment, with the name of the file (RFC 8187)",
}
PARTIAL = {"Content-Range": "the range, and the size of the file"}

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.ASCII)


def span(wanted: str, only_if: str, size: int, modified: str) -> tuple[int, int] | None:
    """The bytes from start to before end of a file of `size` bytes; None for all of it.

    `wanted` and `only_if` are the headers Range and If-Range, "" when absent; `modified` is the
    file's Last-Modified. Raises ValueError for a range that the file does not reach (416).
    """
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or (only_if and only_if != modified):
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise ValueError(wanted)
        return max(0, size - int(suffix)), size
    start, end = int(first), int(last) + 1 if last else size
    if end <= start and last:
        return None  # malformed: the last byte lies before the first
    if start >= size:
        raise ValueError(wanted)
    return start, min(end, size)
