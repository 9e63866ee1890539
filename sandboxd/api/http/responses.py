"""JSON responses. A name that is not UTF-8 has lone surrogates, as in requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from starlette.responses import Response

Shape = TypeVar("Shape")


def to_json(value: Any) -> bytes:
    """`value` as JSON text; in ASCII where UTF-8 cannot carry it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()


class JsonResponse(Response, Generic[Shape]):
    """A JSON response; the content is encoded as `to_json` does.

    `Shape` is the type of the content. The OpenAPI document has it from a handler's annotation.
    """

    media_type = "application/json"

    def __init__(
        self, content: Shape, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(content, status_code, headers)

    def render(self, content: Any) -> bytes:
        """The body."""
        return to_json(content)
