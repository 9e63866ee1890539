"""Variables and texts as clients write them."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.options import texts, variables
from sandboxd.errors import Invalid

from ..each_case import each_case


def test_numbers_and_booleans_in_variables_become_texts() -> None:
    text = {"A": 1, "B": True, "C": False, "D": 1.5, "E": "", "_f9": "\udcff"}
    assert list(variables.checked(text, "environ").values()) == [
        "1", "true", "false", "1.5", "", "\udcff",
    ]  # fmt: skip


@each_case(
    "bad",
    [
        {"": "x"}, {"1A": "x"}, {"A=B": "x"}, {"A B": "x"}, {"Ä": "x"}, {"A": "x\0"}, {"A": []},
        {"A": {}}, {"A": "\ud800"}, {"A" * 257: "x"}, {"A": "x" * 70000}, {"A\n": "x"},
        {f"V{n}": "" for n in range(513)},
    ],
)  # fmt: skip
def test_variables_that_no_program_can_have_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        variables.checked(bad, "environ")


@hypothesis.given(st.text())
def test_program_text_is_a_valid_argument_of_execve(text: str) -> None:
    try:
        assert b"\0" not in texts.program_text(text, "exec").encode("utf-8", "surrogateescape")
    except Invalid:
        pass
