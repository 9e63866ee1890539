"""The core of the resumable upload protocol tus 1.0.0 (tus.io/protocols/resumable-upload), as rules
without I/O.

An upload has a length, which is fixed when it is created, and an offset: how many bytes have
arrived. A client asks for the offset (HEAD) and sends the bytes after it (PATCH), as often as it
takes. Bytes for any other offset are refused, so none can be lost, doubled or put in a wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..http.route import Content, Header

VERSION = "1.0.0"
OCTETS = "application/offset+octet-stream"
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)

_VERSION = Header("Tus-Resumable", "the version of tus", {"const": VERSION})
HEADERS = (_VERSION,)
PATCH_HEADERS = (
    _VERSION,
    Header(
        "Upload-Offset",
        "the number of bytes that have arrived; the body comes after them",
        {"type": "string", "pattern": f"^{_NUMBER.pattern}$"},
        required=True,
    ),
)
CONTENT = Content((OCTETS,), "The bytes from the offset on, as many as the client likes.")


@dataclass(frozen=True, slots=True)
class TusError:
    """The refusal of a request: the HTTP status and the message."""

    status: int
    message: str


def version(headers: Mapping[str, str]) -> TusError | None:
    """The refusal of another version of the protocol; a request without a version is accepted."""
    if headers.get("tus-resumable", VERSION) != VERSION:
        return TusError(412, f"this server speaks tus {VERSION}")
    return None


def patch(headers: Mapping[str, str], size: int) -> int | TusError:
    """The offset of a PATCH to an upload of `size` bytes; or the refusal."""
    if wrong := version(headers):
        return wrong
    if headers.get("content-type", "").partition(";")[0].strip().lower() != OCTETS:
        return TusError(415, f"a PATCH has the Content-Type {OCTETS}")
    text = headers.get("upload-offset", "")
    if not _NUMBER.fullmatch(text):
        return TusError(400, "Upload-Offset must be a whole number")
    offset, length = int(text), headers.get("content-length", "")
    if offset > size:
        return TusError(409, f"the upload has {size} bytes, offset {offset} is beyond them")
    if _NUMBER.fullmatch(length) and offset + int(length) > size:
        return TusError(413, f"the upload has {size} bytes, and no more")
    return offset


def conflict(sent: int, offset: int) -> TusError | None:
    """The refusal of data for the offset `sent` when `offset` bytes have arrived."""
    if sent != offset:
        return TusError(409, f"the upload is at offset {offset}, not {sent}")
    return None


def response_headers(offset: int, size: int) -> dict[str, str]:
    """The headers with the offset and length of an upload."""
    return {
        "tus-resumable": VERSION,
        "upload-offset": str(offset),
        "upload-length": str(size),
        "cache-control": "no-store",
    }


def capabilities(most: int) -> dict[str, str]:
    """The headers of the answer to OPTIONS; `most` bytes is the largest upload."""
    return {"tus-resumable": VERSION, "tus-version": VERSION, "tus-max-size": str(most)}
