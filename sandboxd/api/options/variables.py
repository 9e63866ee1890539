"""Environment variables in requests: checked, and turned into texts. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from ...errors import Invalid
from .texts import program_text

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)

VARIABLES_MAX = 512
ENVIRON_MAX = 64 * 1024
"""Variables of a session, and bytes of all their names and values."""

Variables = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "propertyNames": {"pattern": f"^{_VARIABLE.pattern}$"},
            "maxProperties": VARIABLES_MAX,
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }
    ),
]
"""Environment variables as clients send them, see `checked`."""


def checked(values: Mapping[str, Any], where: str) -> dict[str, str]:
    """Environment variables; numbers and truth values become their JSON texts.

    Raises Invalid for a name or value that no program can have.
    """
    if len(values) > VARIABLES_MAX:
        raise Invalid.of({where: f"at most {VARIABLES_MAX} variables are allowed"})
    texts = {name: _variable(name, value, where) for name, value in values.items()}
    size = sum(len(name) + len(text.encode("utf-8", "replace")) for name, text in texts.items())
    if size > ENVIRON_MAX:
        raise Invalid.of({where: f"at most {ENVIRON_MAX} bytes of names and values are allowed"})
    return texts


def _variable(name: str, value: Any, where: str) -> str:
    if not _VARIABLE.fullmatch(name):
        allowed = "a name consists of letters, digits and _ and begins with no digit"
        raise Invalid.of({where: allowed})
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise Invalid.of({f"{where}.{name}": "a text is expected"})
    return program_text(value, f"{where}.{name}")
