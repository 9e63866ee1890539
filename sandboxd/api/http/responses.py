"""JSON responses. A name that is not UTF-8 has lone surrogates, as in requests."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from starlette.responses import Response


def to_json(value: Any) -> bytes:
    """`value` as JSON text; in ASCII where UTF-8 cannot carry it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


class JsonResponse(Response):
    """A JSON response; the content is encoded as `to_json` does."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return to_json(content)
