"""The filter of sessions with a workspace: as that of all, but for modes with set-user-ID bits."""

from __future__ import annotations

import struct

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.jail import seccomp
from sandboxd.jail.condition import Condition
from sandboxd.jail.profile import ALLOWED, SET_ID, UNSEEN, names

from ..each_case import each_case
from .filter_program import ALLOW, ENOSYS, NAMES, NOTIFY, NUMBERS, judged

FILTER = seccomp.compile(set_id=False)
CODE = list(struct.iter_unpack("HBBI", FILTER.program))
LOW = 0xFFFFFFFF


def refuses(condition: Condition, arguments: tuple[int, ...]) -> bool:
    """The condition holds for these arguments."""
    mode = arguments[condition.index] & 0o6000
    if condition.where is None:
        return bool(mode)
    index, flag = condition.where
    return bool(mode) and arguments[index] & flag == flag


def expected(number: int, arguments: tuple[int, ...]) -> int:
    """The answer by the common filter and SET_ID."""
    name = NAMES.get(number, "")
    if name in UNSEEN:
        return ENOSYS
    if any(one.call == name and refuses(one, arguments) for one in SET_ID):
        return NOTIFY
    return judged(number, arguments)


MODES = st.one_of(st.integers(0, 0o7777), st.integers(0, (1 << 64) - 1))


@pytest.mark.parametrize("call", sorted({one.call for one in SET_ID}))
@hypothesis.given(st.tuples(*[MODES] * 6))
def test_call_with_a_mode_is_judged_by_its_set_id_bits(
    call: str, arguments: tuple[int, ...]
) -> None:
    number = NUMBERS[call]
    assert judged(number, arguments, program=CODE) == expected(number, arguments)
    assert FILTER.refused[number] == call


@hypothesis.given(st.integers(0, 600), st.tuples(*[MODES] * 6))
def test_every_other_call_is_judged_as_in_other_sessions(
    number: int, arguments: tuple[int, ...]
) -> None:
    assert judged(number, arguments, program=CODE) == expected(number, arguments)


@each_case("bits", [0o4000, 0o2000, 0o6000])
@each_case("flag", [0o100, 0o20000000, 0o20200000, 0o1101])
def test_open_that_makes_a_file_is_refused_and_another_one_is_not(bits: int, flag: int) -> None:
    for call, arguments in (
        ("open", (0, flag, bits | 0o755)), ("openat", (0, 0, flag, bits | 0o755)),
    ):  # fmt: skip
        assert judged(NUMBERS[call], arguments, program=CODE) == NOTIFY
        plain = tuple(0 if value == flag else value for value in arguments)
        assert judged(NUMBERS[call], plain, program=CODE) == ALLOW


def test_every_call_of_the_profile_that_takes_a_mode_has_a_condition() -> None:
    """mq_open makes files of the run's own IPC namespace; msgget and its kin make none."""
    prefixes = ("chmod", "fchmod", "open", "creat", "mkdir", "mknod")
    taking = {name for name in names(ALLOWED) if name.startswith(prefixes)}
    assert taking == {one.call for one in SET_ID} | set(UNSEEN)
