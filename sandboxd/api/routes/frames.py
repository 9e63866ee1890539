"""The frames of a terminal, from and to its client: text frames with a JSON object. No I/O.

{"type": "stdin", "chars": base64}    input
{"type": "resize", "rows", "cols"}    the size of the window
{"type": "ping"}                      the user is still there; gets no reply
{"type": "restart"}                   end all on the terminal and begin a new one

{"type": "out", "data": base64}       output
{"type": "error", "data": text}       a message of sandboxd
{"type": "end", "data": "", "exitCode", "verdict"}   the last one; an extension, with an empty
                                      `data` for clients that read nothing else
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import msgspec

from ...errors import Invalid
from ...runs.journal import JournalEvent
from ..http.responses import to_json

FRAMES = (__doc__ or "").partition("\n\n")[2]
"""The description of the frames, for the OpenAPI document."""

_Size = Annotated[int, msgspec.Meta(ge=1, le=0xFFFF)]


class StdinFrame(msgspec.Struct, tag_field="type", tag="stdin"):
    """Input for the terminal."""

    chars: bytes


class ResizeFrame(msgspec.Struct, tag_field="type", tag="resize"):
    """A new size of the window."""

    rows: _Size
    cols: _Size


class PingFrame(msgspec.Struct, tag_field="type", tag="ping"):
    """The user is still there."""


class RestartFrame(msgspec.Struct, tag_field="type", tag="restart"):
    """The request for a new shell."""


Frame = StdinFrame | ResizeFrame | PingFrame | RestartFrame

_ALLOWED = (
    "a frame is an object with type stdin (chars in base64), resize (rows, cols from 1 to 65535), "
    "ping or restart"
)
_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(
    Frame, strict=False
)  # some clients send "80" for 80


def read(text: str) -> Frame:
    """The frame in a text from a client. Raises Invalid, which names what is allowed."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"{_ALLOWED}; this one is not: {error}") from None


def out(data: bytes) -> str:
    """The frame for output of the terminal."""
    return msgspec.json.encode({"type": "out", "data": data}).decode()


def error(text: str) -> str:
    """The frame for a message of sandboxd."""
    return to_json({"type": "error", "data": text}).decode()


def end(event: JournalEvent | None) -> str:
    """The last frame. The exit code is null unless the shell has ended by itself."""
    verdict = event.verdict if event else None
    return to_json(
        {
            "type": "end",
            "data": "",
            "exitCode": event.exit if event else None,
            "verdict": asdict(verdict) if verdict else None,
        }
    ).decode()
