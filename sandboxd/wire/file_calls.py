"""The protocol between the api and a file helper: packets, requests and answers.

A file helper serves one request over a SOCK_SEQPACKET socket, and ends. A packet is

    b"J" and a JSON object, or
    b"D" and 1 to FILE_CHUNK bytes of data.

JSON is ASCII: in a name that is not UTF-8, the lone surrogates of os.fsdecode are escaped. NAME and
P are names of the client (files/paths.py has their rules). D is a data packet. The first answer has
"ok"; {"ok": false, "kind", "error"} ends the conversation.

    request                                    answer
    {"op": "upload"}, then for each file       {"ok": true}
      {"file": NAME, "mode": 420 or 493}, D*
      and at last {"commit": true}
    {"op": "unpack", "path": P}, then D*       {"ok": true, "files": N, "directories": N,
      and at last {"commit": true}             "links": N, "bytes": N}
    {"op": "pack", "path": P,                  {"ok": true, "unmatched": [PATTERN, ...],
     "match": [PATTERN, ...]}                  "left_out": [[NAME, KIND], ...],
                                               "left_out_count": N}, D*, and {"end": true}
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
    {"op": "checkpoint"}                       {"ok": true, "entries": N}, and for each
                                               {"restore": true} {"ok": true, "restored": N}

Requests to the helpers of virtual folders only:

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

upload   Nothing changes in the workdir before the commit. A socket that closes before the
         commit aborts the upload. The answer comes after the commit, also if an earlier packet was
         refused.
unpack   The data is a tar, unpacked below P. As an upload, it is put into place at the commit: as a
         whole or not at all. A refusal comes at once. The helper then receives nothing more, so
         that the next packet of the sender fails (EPIPE).
pack     The data is a tar in the format pax. Names are relative to P. PATTERN is one of
         files/globs.py; without patterns, everything below P is packed. At most NAMED_MAX of
         files/packing.py entries are named, and all are counted. KIND is one of LeftOut.
list     The data is the JSON text of a list of {"mode", "size", "ctime", "mtime", "atime",
         "filename"} and, for a symbolic link, "target". TEXT names entries that could not be read;
         "": there are none. With the form "items" an entry is {"name", "type", "size", "mode",
         "created", "modified"}, the times in ISO 8601.
read     The data is exactly N bytes, or the bytes from start to before end, even if the file
         changes meanwhile.
usage    Bytes of the whole file system; files below /home/work, up to the bound of the count.
append   The first offset is the position of the new data. When the socket closes before the commit,
         the data that has come stays. ID is 32 hexadecimal digits; see files/resumable.py.
begin    Unfinished uploads that are not in "keep" are removed.
archive  The data of a part is an uncompressed tar. All paths are checked before the first
         answer. KIND is one of LeftOut; kinds that do not occur are absent.
created  Regular files below P whose ctime is SECONDS since the epoch or later, at most
         CREATED_MAX; names are relative to P, sorted.

checkpoint  The workdir and /tmp are saved, and at each "restore" they become again as they
         were saved. The checkpoint ends with the socket. See files/checkpoint.py.

After a failure of its own behind {"ok": true}, the helper closes the socket without {"end": true}.
By this a reader tells an incomplete answer from a complete one.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from ..errors import (
    Invalid,
    NoSpace,
    NotFound,
    OutsideHome,
    QuotaExceeded,
    SandboxdError,
    Unavailable,
)

FILE_CHUNK = 120 * 1024
"""Bytes of data in one packet at most. glibc maps and unmaps memory for 128 KiB and more."""

IN_FLIGHT = 208 * 1024
"""Bytes of packets that a sender is ahead of the receiver, which the kernel doubles (socket(7))."""

DATA = b"D"
"""The first byte of a packet of data."""

PACKET_MAX = 128 * 1024
"""Bytes of one packet at most; a receiver needs a buffer of this size."""

CREATED_MAX = 1000
"""Names in one answer to "created" at most."""

ANSWER_NAMES_MAX = 96 * 1024
"""Bytes of JSON that the names of "created" may fill; further names are left out."""

Kind = Literal["outside", "invalid", "missing", "full", "nospace", "fault"]
"""The reason of a refusal: OutsideHome, Invalid, NotFound, QuotaExceeded, NoSpace, or a failure of
the helper itself."""

LeftOut = Literal["fifo", "socket", "device", "unreadable", "too_deep", "outside"]
"""The kinds of entries that an archive may leave out. unreadable: permission denied, or a program
holds a lease; too_deep: directories with more components, or a longer name, than a client's name
may have; outside, of "pack" alone: a link that leaves /home/work."""


class FileWireError(SandboxdError):
    """The peer sent a malformed packet; the conversation is over."""


def pack_json(message: dict[str, Any]) -> bytes:
    """The packet for `message`.

    Raises Invalid for a packet that is too large. Answers are bounded, so only the names in a
    client's request can make a packet too large.
    """
    packet = b"J" + json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(packet) > PACKET_MAX:
        raise Invalid(f"the names of one request take at most {PACKET_MAX} bytes")
    return packet


def pack_data(data: bytes | bytearray | memoryview) -> bytes:
    """The packet for 1 to FILE_CHUNK bytes. Raises FileWireError for any other number."""
    if not 1 <= len(data) <= FILE_CHUNK:
        raise FileWireError(f"{len(data)} bytes of data; a packet has 1 to {FILE_CHUNK}")
    return b"".join((DATA, data))


def unpack(packet: bytes | memoryview) -> dict[str, Any] | bytes:
    """The JSON object or the data of a packet. Raises FileWireError for anything else."""
    if len(packet) > PACKET_MAX:
        raise FileWireError("packet too large")
    tag, content = packet[:1], bytes(packet[1:])
    if tag == DATA and 1 <= len(content) <= FILE_CHUNK:
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
    """The exception for an {"ok": false} answer; Unavailable for an unknown kind."""
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
    return Unavailable("the file call failed; the server's log has the cause", text)
