"""Limits as clients write them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.options import limit_values
from sandboxd.config.settings import STEP_LIMITS, ScratchConfig
from sandboxd.errors import Invalid
from sandboxd.model import MAY_BE_ZERO, UNLIMITED

from ..each_case import each_case

anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@each_case(
    ("text", "bytes_"),
    [
        ("256m", 256 << 20), ("1g", 1 << 30), ("1.5G", 3 << 29), ("4096", 4096), (4096, 4096),
        ("64 MiB", 64 << 20), ("2kb", 2048), ("1t", 1 << 40), (" 1k ", 1024),
    ],
)  # fmt: skip
def test_sizes_are_powers_of_1024(text: Any, bytes_: int) -> None:
    assert limit_values.size_of(text, "mem") == bytes_


@each_case("text", ["", "m", "-1", "1x", "1 2", "0", 0, -5, True, None, 1.5, [], "9" * 40])
def test_text_that_is_not_a_size_is_refused_by_name(text: Any) -> None:
    with pytest.raises(Invalid) as refused:
        limit_values.size_of(text, "config.resources.mem")
    assert "config.resources.mem" in refused.value.data


@hypothesis.given(anything, st.sampled_from(sorted(asdict(STEP_LIMITS))))
def test_amount_is_finite_and_above_zero_or_refused(value: Any, field: str) -> None:
    try:
        amount = limit_values.amount(field, value, "x")
    except Invalid:
        return
    assert 0 < amount < float("inf") or (amount == 0 and field in MAY_BE_ZERO)


def test_scratch_has_one_inode_for_2_kib_at_most() -> None:
    scratch = ScratchConfig(inodes=65536)
    assert [scratch.inodes_of(size << 20) for size in (16, 128, 1024)] == [8192, 65536, 65536]


def test_stack_is_a_size_or_unlimited() -> None:
    assert limit_values.amount("stack", "64m", "stack") == 64 << 20
    assert limit_values.amount("stack", "unlimited", "stack") == UNLIMITED
    for value, field in ((4096, "stack"), ("infinity", "stack"), ("unlimited", "output")):
        with pytest.raises(Invalid):
            limit_values.amount(field, value, field)
    with pytest.raises(Invalid) as error:
        limit_values.amount("stack", "endless", "stack")
    assert 'or "unlimited", is expected' in error.value.data["stack"]
