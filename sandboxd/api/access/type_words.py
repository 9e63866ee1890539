"""The words of a message about a value of a wrong type or out of range, for clients. No I/O.

msgspec writes "Expected `int | null`, got `str`", in names of types that a user of JSON need not
know. A message of another form is passed on as it is.
"""

from __future__ import annotations

import re

_NAMES = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip
_EXPECTED = re.compile(
    r"Expected `([a-z |]+)`(?: of length)?(?: ([<>]=?) ([\d.]+))?(?:, got `(\w+)`)?"
)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_BOUNDS = {">=": "{} or more", "<=": "{} at most", ">": "above {}", "<": "below {}"}


def in_words(text: str) -> str:
    """The message `text` of msgspec in words."""
    if match := _MISSING.fullmatch(text):
        return f"{match[1]} is missing"
    match = _EXPECTED.fullmatch(text)
    if not match or not {*match[1].split(" | ")} <= {*_NAMES}:
        return text
    expected = " or ".join(_NAMES[name] for name in match[1].split(" | "))
    if match[2]:
        unit = " characters" if "of length" in text and match[1] == "str" else ""
        expected += f", {_BOUNDS[match[2]].format(match[3].removesuffix('.0') + unit)},"
    received = f", not {_NAMES.get(match[4], match[4])}" if match[4] else ""
    return f"{expected} is expected{received}"
