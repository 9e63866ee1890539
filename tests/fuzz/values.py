"""The effort of the fuzzing tests, and random JSON values that have the shapes of real ones."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ..effort import examples

effort = settings(max_examples=examples(200), suppress_health_check=list(HealthCheck))
"""For rules that take microseconds."""

small_effort = settings(effort, max_examples=examples(25))
"""For rules with sockets, files or a server."""

texts = (
    st.sampled_from([
        "", ".", "..", "/", "/home/work", "a/../../b", "a\0b", "\ud800", "\udcff", "\u212a",
        "/srv/\ud800", "한글",
        "x" * 300, "true", "null", "nan", "inf", "-inf", "1e999", "0x10", "1_000", "٣", "512m",
        "1.5g", "-1", "+1", " 1 ", "9" * 40, "00000000-0000-4000-8000-000000000001",
    ])
    | st.text(st.characters(codec=None), max_size=12)
)  # fmt: skip
numbers = (
    st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.sampled_from([0, 1, -1, 1 << 31, 1 << 53, 1 << 62, 1 << 63, 10**400, 1e308, 5e-324])
)
scalars = st.none() | st.booleans() | numbers | texts


def objects(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these keys and with others."""
    names = (st.sampled_from(keys) | texts) if keys else texts
    return st.dictionaries(names, values(*keys), max_size=6)


def values(*keys: str) -> st.SearchStrategy[Any]:
    """Any JSON value."""
    names = (st.sampled_from(keys) | texts) if keys else texts
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    )


@st.composite
def changed(draw: st.DrawFn, valid: dict[str, Any]) -> dict[str, Any]:
    """A valid object of which some members are replaced, removed or added."""
    message = dict(valid)
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(sorted(valid)) | texts)
        if draw(st.booleans()):
            message[key] = draw(values(*valid))
        else:
            message.pop(key, None)
    return message


def encoded(value: Any) -> bytes:
    """JSON, with the NaN and Infinity of Python."""
    return json.dumps(value, separators=(",", ":")).encode()


packets = (
    st.binary(max_size=80)
    | st.sampled_from([b"", b"{}", b"[]", b"null", b"[" * 2000, b'{"a":' * 2000, b"9" * 5000])
    | values().map(encoded)
    | objects("op", "id").map(lambda message: encoded(message)[:-1])
    | objects("op", "id").map(lambda message: json.dumps(message).encode("utf-16"))
)
"""Packets of any kind."""
