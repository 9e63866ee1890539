"""The limits that sessions and runs get."""

from __future__ import annotations

from dataclasses import asdict, replace

import hypothesis
from hypothesis import strategies as st

from sandboxd.api.options import granted_limits, limit_values
from sandboxd.config.settings import STEP_LIMITS, Config
from sandboxd.model import UNLIMITED


@hypothesis.given(
    st.fixed_dictionaries({}, optional={f: st.integers(1, 1 << 40) for f in asdict(STEP_LIMITS)}),
    st.fixed_dictionaries({}, optional={f: st.integers(1, 1 << 40) for f in asdict(STEP_LIMITS)}),
)
def test_limits_of_a_run_exceed_neither_ceiling_nor_session(
    session: dict[str, int], run: dict[str, int]
) -> None:
    ceiling = STEP_LIMITS
    granted, _ = granted_limits.granted(session, ceiling)
    limits, lowered = granted_limits.step_limits(
        replace(STEP_LIMITS, wall_s=1), granted, run, ceiling
    )
    for field, most in asdict(ceiling).items():
        assert getattr(limits, field) <= min(most, granted.get(field, most))
        if field in run:
            is_less = getattr(limits, field) < run[field]
            assert (limit_values.client_name(field) in {clamp.name for clamp in lowered}) == is_less


def test_unlimited_stack_is_lowered_to_the_ceiling() -> None:
    ceiling = replace(Config().ceiling, stack=64 << 20)
    limits, (clamp,) = granted_limits.granted({"stack": UNLIMITED}, ceiling)
    assert limits == {"stack": 64 << 20}
    assert clamp.text == "from unlimited to 64 MiB, the most that is allowed"
    assert granted_limits.granted({"stack": UNLIMITED}, Config().ceiling)[1] == []


def test_clamp_names_both_values() -> None:
    wanted = {"memory": 900 << 30, "wall_s": 1e6, "pids": 5000, "cpus": 0.5}
    limits, clamps = granted_limits.granted(wanted, Config().ceiling)
    assert limits == {"memory": 4 << 30, "wall_s": 3600, "pids": 1024, "cpus": 0.5}
    assert [(clamp.name, clamp.text) for clamp in clamps] == [
        ("mem", "from 900 GiB to 4 GiB, the most that is allowed"),
        ("pids", "from 5000 to 1024, the most that is allowed"),
        ("wall_s", "from 1000000 s to 3600 s, the most that is allowed"),
    ]
    assert granted_limits.clamp_fields(clamps) == {
        "clamped": ["mem", "pids", "wall_s"],
        "clamped_values": {
            "mem": {"requested": 900 << 30, "granted": 4 << 30},
            "pids": {"requested": 5000, "granted": 1024},
            "wall_s": {"requested": 1e6, "granted": 3600},
        },
    }
    assert granted_limits.clamp_fields([]) == {}
