"""The checks of texts in requests, and texts in messages about them. No I/O."""

from __future__ import annotations

from typing import Any

from ...errors import Invalid

_QUOTED = 60
"""Characters of a value that a message shows."""


def program_text(text: str, where: str) -> str:
    """`text`, if it can be an argument or variable of a program: execve(2) takes no NUL.

    Raises Invalid.
    """
    if b"\0" in encoded(text, where):
        raise Invalid.of({where: "a text without NUL is expected"})
    return text


def stored(text: str, where: str) -> str:
    """`text`, if the database can keep it: Unicode, without surrogates. Raises Invalid."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid.of({where: "a text that can be written in UTF-8 is expected"}) from None
    return text


def encoded(text: str, where: str) -> bytes:
    """`text` as UTF-8; U+DC80..U+DCFF stand for single bytes that are not. Raises Invalid."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Invalid.of({where: "a text that can be written in UTF-8 is expected"}) from None


def quoted(value: Any) -> str:
    """A value of a request for a message: not too long, in printable characters."""
    text = ascii(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
