"""The resumable upload protocol, tus 1.0.0 (tus.io/protocols/resumable-upload): its core, as
rules without I/O.

An upload is a length that was told when it was made, and an offset: how much of it is there. A
client asks for the offset (HEAD) and sends what follows (PATCH), as often as it takes. What is
sent for any other offset is refused, so nothing can be lost, doubled or put in a wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

VERSION = "1.0.0"
OCTETS = "application/offset+octet-stream"
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TusError:
    """Why a request is refused: the HTTP status, and what is told."""

    status: int
    message: str


def version(headers: Mapping[str, str]) -> TusError | None:
    """What is wrong with the protocol's version; one that is not told is ours."""
    if headers.get("tus-resumable", VERSION) != VERSION:
        return TusError(412, f"this server speaks tus {VERSION}")
    return None


def patch(headers: Mapping[str, str], size: int) -> int | TusError:
    """The offset that a PATCH is for, in an upload of `size` bytes; or what is wrong with it."""
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


def conflict(asked: int, offset: int) -> TusError | None:
    """What is wrong with data for the offset `asked` when `offset` bytes are there."""
    if asked != offset:
        return TusError(409, f"the upload is at offset {offset}, not {asked}")
    return None


def answer(offset: int, size: int) -> dict[str, str]:
    """The headers that tell how far the upload is."""
    return {
        "tus-resumable": VERSION,
        "upload-offset": str(offset),
        "upload-length": str(size),
        "cache-control": "no-store",
    }


def capabilities(most: int) -> dict[str, str]:
    """The headers of the answer to OPTIONS; `most` bytes is the largest upload."""
    return {"tus-resumable": VERSION, "tus-version": VERSION, "tus-max-size": str(most)}
