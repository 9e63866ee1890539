"""Amounts and variables as clients write them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.options import sizes
from sandboxd.config.settings import STEP_LIMITS, Config, ScratchConfig
from sandboxd.errors import Invalid
from sandboxd.model import UNLIMITED

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
    assert sizes.size_of(text, "mem") == bytes_


@each_case("text", ["", "m", "-1", "1x", "1 2", "0", 0, -5, True, None, 1.5, [], "9" * 40])
def test_text_that_is_not_a_size_is_refused_by_name(text: Any) -> None:
    with pytest.raises(Invalid) as refused:
        sizes.size_of(text, "config.resources.mem")
    assert "config.resources.mem" in refused.value.data


@hypothesis.given(anything, st.sampled_from(sorted(asdict(STEP_LIMITS))))
def test_amount_is_above_zero_or_refused(value: Any, field: str) -> None:
    try:
        assert 0 < sizes.amount(field, value, "x") < float("inf")
    except Invalid:
        pass


@hypothesis.given(
    st.fixed_dictionaries({}, optional={f: st.integers(1, 1 << 40) for f in asdict(STEP_LIMITS)}),
    st.fixed_dictionaries({}, optional={f: st.integers(1, 1 << 40) for f in asdict(STEP_LIMITS)}),
)
def test_limits_of_a_run_exceed_neither_ceiling_nor_session(
    session: dict[str, int], run: dict[str, int]
) -> None:
    ceiling = STEP_LIMITS
    granted, _ = sizes.granted(session, ceiling)
    limits, lowered = sizes.step_limits(replace(STEP_LIMITS, wall_s=1), granted, run, ceiling)
    for field, most in asdict(ceiling).items():
        assert getattr(limits, field) <= min(most, granted.get(field, most))
        if field in run:
            is_less = getattr(limits, field) < run[field]
            assert (sizes.client_name(field) in {clamp.name for clamp in lowered}) == is_less


def test_numbers_and_booleans_in_variables_become_texts() -> None:
    text = {"A": 1, "B": True, "C": False, "D": 1.5, "E": "", "_f9": "\udcff"}
    assert list(sizes.variables(text, "environ").values()) == [
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
        sizes.variables(bad, "environ")


@hypothesis.given(st.text())
def test_program_text_is_a_valid_argument_of_execve(text: str) -> None:
    try:
        assert b"\0" not in sizes.program_text(text, "exec").encode("utf-8", "surrogateescape")
    except Invalid:
        pass


def test_scratch_has_one_inode_for_2_kib_at_most() -> None:
    scratch = ScratchConfig(inodes=65536)
    assert [scratch.inodes_of(size << 20) for size in (16, 128, 1024)] == [8192, 65536, 65536]


def test_stack_is_a_size_or_unlimited() -> None:
    assert sizes.amount("stack", "64m", "stack") == 64 << 20
    assert sizes.amount("stack", "unlimited", "stack") == UNLIMITED
    for value, field in ((4096, "stack"), ("infinity", "stack"), ("unlimited", "output")):
        with pytest.raises(Invalid):
            sizes.amount(field, value, field)
    with pytest.raises(Invalid) as error:
        sizes.amount("stack", "endless", "stack")
    assert 'or "unlimited", is expected' in error.value.data["stack"]


def test_unlimited_stack_is_lowered_to_the_ceiling() -> None:
    ceiling = replace(Config().ceiling, stack=64 << 20)
    limits, (clamp,) = sizes.granted({"stack": UNLIMITED}, ceiling)
    assert limits == {"stack": 64 << 20}
    assert clamp.text == "from unlimited to 64 MiB, the most that is allowed"
    assert sizes.granted({"stack": UNLIMITED}, Config().ceiling)[1] == []


def test_clamp_names_both_values() -> None:
    wanted = {"memory": 900 << 30, "wall_s": 1e6, "pids": 5000, "cpus": 0.5}
    limits, clamps = sizes.granted(wanted, Config().ceiling)
    assert limits == {"memory": 4 << 30, "wall_s": 3600, "pids": 1024, "cpus": 0.5}
    assert [(clamp.name, clamp.text) for clamp in clamps] == [
        ("mem", "from 900 GiB to 4 GiB, the most that is allowed"),
        ("pids", "from 5000 to 1024, the most that is allowed"),
        ("wall_s", "from 1000000 s to 3600 s, the most that is allowed"),
    ]
    assert sizes.clamp_fields(clamps) == {
        "clamped": ["mem", "pids", "wall_s"],
        "clamped_values": {
            "mem": {"requested": 900 << 30, "granted": 4 << 30},
            "pids": {"requested": 5000, "granted": 1024},
            "wall_s": {"requested": 1e6, "granted": 3600},
        },
    }
    assert sizes.clamp_fields([]) == {}
