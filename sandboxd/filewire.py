"""How the api and a file helper speak: the packets, the requests and the answers.

A file helper serves one request over a SOCK_SEQPACKET socket and is gone. A packet is

    b"J" and a JSON object, or
    b"D" and 1 to FILE_CHUNK bytes of data.

JSON is ASCII: a name that is no UTF-8 travels as os.fsdecode made it, lone surrogates escaped.
NAME and P are names as the client gave them (files/paths.py has their rules); data packets are
written D below. The first answer has "ok"; {"ok": false, "kind", "error"} ends the conversation.

    request                                    answer
    {"op": "upload"}, then for each file       {"ok": true}
      {"file": NAME, "mode": 420 or 493}, D*
      and at last {"commit": true}
    {"op": "list", "path": P}                  {"ok": true, "path": "/home/work/..."}, D*,
      maybe with "form": "items"               {"end": true, "errors": TEXT}
    {"op": "read", "path": P}                  {"ok": true, "size": N, "name": BASE}, D*,
      maybe with "start" and "end"             {"end": true}
    {"op": "stat", "path": P}                  {"ok": true, "size": N, "mtime": SECONDS,
                                               "directory": BOOL}
    {"op": "usage"}                            {"ok": true, "size", "used", "files"}
    {"op": "archive", "paths": [P, ...]}       {"ok": true}, for each path
                                               {"part": BASE, "left_out": {KIND: COUNT}}, D*,
                                               and at last {"end": true}
    {"op": "created", "path": P,               {"ok": true, "names": [NAME, ...]}
     "since": SECONDS}

Asked only of the helpers of virtual folders:

    {"op": "mkdir", "paths": [P, ...],         {"ok": true}
     "parents": BOOL, "exist_ok": BOOL}
    {"op": "rename", "path": P, "name": BASE}  {"ok": true}
    {"op": "move", "path": P, "to": P}         {"ok": true}
    {"op": "remove", "paths": [P, ...],        {"ok": true}
     "recursive": BOOL}
    {"op": "begin", "upload": ID, "file": P,   {"ok": true}
     "size": N, "keep": [ID, ...]}
    {"op": "append", "upload": ID, "file": P,  {"ok": true, "offset": N}, then for D* and
     "size": N}                                {"commit": true} once more, or a refusal

upload   Nothing changes in the work directory before the commit; a socket that closes before it
         is an abort. The answer comes after the commit, also where an earlier packet was refused.
list     The data is the JSON text of a list of {"mode", "size", "ctime", "mtime", "atime",
         "filename"} and, for a symbolic link, "target". TEXT tells of entries that could not be
         read, "" when there are none. As "items" they are {"name", "type", "size", "mode",
         "created", "modified"}, the times in ISO 8601.
read     The data is exactly N bytes, or those from start to before end, whatever becomes of the
         file meanwhile.
usage    Bytes of the whole file system; files below /home/work, as far as they were counted.
append   The first offset is that of the data to come. A socket that closes before the commit
         leaves what has come. ID is 32 hexadecimal digits; see files/resumable.py.
begin    Unfinished uploads that are not in "keep" are removed.
archive  The data of a part is an uncompressed tar. All paths are checked before the first
         answer. KIND is one of LEFT_OUT; kinds that do not occur are absent.
created  Regular files below P whose ctime is SECONDS since the epoch or later, at most
         CREATED_MAX; names are relative to P, sorted.

Should the helper meet a failure of its own after {"ok": true}, it closes the socket without
{"end": true}; that is how a reader tells a cut answer from a whole one.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from .errors import (
    Invalid,
    NoSpace,
    NotFound,
    OutsideHome,
    QuotaExceeded,
    SandboxdError,
    Unavailable,
)

FILE_CHUNK = 64 * 1024
"""Bytes of data in one packet at most."""

PACKET_MAX = 128 * 1024
"""Bytes of one packet at most; what a receiver should be ready for."""

CREATED_MAX = 1000
"""Names in one answer to "created" at most."""

ANSWER_NAMES_MAX = 96 * 1024
"""Bytes of JSON that the names of "created" may fill; what does not fit is not told."""

Kind = Literal["outside", "invalid", "missing", "full", "nospace", "fault"]
"""Why it was refused: OutsideHome, Invalid, NotFound, QuotaExceeded, NoSpace, or our fault."""

LEFT_OUT = ("fifo", "socket", "device", "unreadable", "too_deep")
"""What an archive may leave out. unreadable: permission denied, or a program holds a lease;
too_deep: directories with more components, or a longer name, than a client's name may have."""


class FileWireError(SandboxdError):
    """The peer sent something that is no packet; the conversation is over."""


def pack_json(message: dict[str, Any]) -> bytes:
    """The packet for `message`.

    Raises Invalid when it is too large: answers are bounded, so that is a client's doing.
    """
    packet = b"J" + json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(packet) > PACKET_MAX:
        raise Invalid(f"the names of one request take at most {PACKET_MAX} bytes")
    return packet


def pack_data(data: bytes | bytearray | memoryview) -> bytes:
    """The packet for 1 to FILE_CHUNK bytes. Raises FileWireError for any other number."""
    if not 1 <= len(data) <= FILE_CHUNK:
        raise FileWireError(f"{len(data)} bytes of data; a packet has 1 to {FILE_CHUNK}")
    return b"".join((b"D", data))


def unpack(packet: bytes) -> dict[str, Any] | bytes:
    """The JSON object or the data of a packet. Raises FileWireError for anything else."""
    if len(packet) > PACKET_MAX:
        raise FileWireError("packet too large")
    tag, content = packet[:1], packet[1:]
    if tag == b"D" and 1 <= len(content) <= FILE_CHUNK:
        return content
    if tag != b"J":
        raise FileWireError("neither a JSON nor a data packet")
    try:
        message = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FileWireError(f"packet is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise FileWireError("packet is not an object")
    return message


def refusal(answer: dict[str, Any]) -> SandboxdError:
    """The exception that an {"ok": false} answer stands for; an unknown kind is our fault."""
    text = str(answer.get("error", "the file helper gave no reason"))
    match answer.get("kind"):
        case "outside":
            return OutsideHome(text)
        case "invalid":
            return Invalid(text)
        case "missing":
            return NotFound("path", text)
        case "full":
            return QuotaExceeded(text)
        case "nospace":
            return NoSpace(text)
    return Unavailable(text)
