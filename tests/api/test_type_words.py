"""The words of messages about values of a wrong type, for users who do not know names of types."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from sandboxd.api.access.type_words import in_words

from ..each_case import each_case


@each_case(
    ("kind", "value", "words"),
    [
        (int | dict[str, int] | None, "abc",
         "a whole number or an object or null is expected, not a text"),
        (Annotated[float, Meta(ge=0)], -1.0, "a number, 0 or more, is expected"),
        (Annotated[int, Meta(le=86400)], 90000, "a whole number, 86400 at most, is expected"),
        (Annotated[str, Meta(max_length=3)], "long", "a text, 3 characters at most, is expected"),
        (list[int], {}, "a list is expected, not an object"),
        (bool, 1, "true or false is expected, not a whole number"),
    ],
)  # fmt: skip
def test_type_is_named_in_words(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(value, kind)
    assert in_words(str(error.value)) == words


def test_missing_field_is_named() -> None:
    kind = msgspec.defstruct("Kind", [("image", str)])
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert({}, kind)
    assert in_words(str(error.value)) == "image is missing"


def test_message_of_other_form_stays_as_it_is() -> None:
    assert in_words("Invalid UUID") == "Invalid UUID"
    assert in_words("Expected `date`, got `str`") == "Expected `date`, got `str`"
