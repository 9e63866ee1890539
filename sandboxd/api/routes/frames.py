"""What the client of a terminal sends and what it is sent, a JSON object a text frame. No I/O.

{"type": "stdin", "chars": base64}    typed
{"type": "resize", "rows", "cols"}    the size of the window
{"type": "ping"}                      the user is still there; no answer
{"type": "restart"}                   end everything on the terminal and begin anew

{"type": "out", "data": base64}       what the terminal shows
{"type": "error", "data": text}       sandboxd's own word
{"type": "end", "data": "", "exitCode", "verdict"}   the last one; an extension, with an empty
                                      `data` for clients that look at nothing else
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import msgspec

from ...errors import Invalid
from ...runs.journal import JournalEvent
from ..http.responses import to_json

_Size = Annotated[int, msgspec.Meta(ge=1, le=0xFFFF)]


class StdinFrame(msgspec.Struct, tag_field="type", tag="stdin"):
    """Bytes that were typed."""

    chars: bytes


class ResizeFrame(msgspec.Struct, tag_field="type", tag="resize"):
    """The window has another size."""

    rows: _Size
    cols: _Size


class PingFrame(msgspec.Struct, tag_field="type", tag="ping"):
    """The user is still there."""


class RestartFrame(msgspec.Struct, tag_field="type", tag="restart"):
    """A new shell is wanted."""


Frame = StdinFrame | ResizeFrame | PingFrame | RestartFrame

_ALLOWED = (
    "a frame is an object with type stdin (chars in base64), resize (rows, cols from 1 to 65535), "
    "ping or restart"
)
_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(
    Frame, strict=False
)  # clients that send "80" mean 80


def read(text: str) -> Frame:
    """The frame that a client sent. Raises Invalid saying what is allowed."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"{_ALLOWED}; this one is not: {error}") from None


def out(data: bytes) -> str:
    """The frame for what the terminal shows."""
    return msgspec.json.encode({"type": "out", "data": data}).decode()


def error(text: str) -> str:
    """The frame for a word of sandboxd's own."""
    return to_json({"type": "error", "data": text}).decode()


def end(event: JournalEvent | None) -> str:
    """The last frame. The exit code is null where a limit, or somebody else, has ended it."""
    verdict = event.verdict if event else None
    return to_json(
        {
            "type": "end",
            "data": "",
            "exitCode": event.exit if event else None,
            "verdict": asdict(verdict) if verdict else None,
        }
    ).decode()
