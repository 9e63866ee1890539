"""The filter decides exactly as the profile says, for all numbers and all arguments that matter."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Sequence

import hypothesis
from hypothesis import strategies as st

from sandboxd.jail.condition import Condition
from sandboxd.jail.profile import ALLOWED, CONDITIONS, IGNORED, REFUSED, SET_ID, names

from ..each_case import each_case
from ..effort import examples
from .filter_program import (
    ALLOW,
    CODE,
    ENOSYS,
    FILTER,
    NAMES,
    NOTIFY,
    NUMBERS,
    executed,
    judged,
    plain,
    refusal,
)


def expected(number: int, arguments: tuple[int, ...]) -> int:
    """The answer by the profile alone."""
    name = NAMES.get(number, "")
    if name in names(REFUSED):
        return NOTIFY
    if name in names(IGNORED):
        return refusal(0)
    if name not in names(ALLOWED):
        return ENOSYS
    for condition in CONDITIONS:
        if condition.call == name and holds(condition, arguments):
            return NOTIFY if condition.errno == errno.EPERM else refusal(condition.errno)
    return ALLOW


def holds(condition: Condition, arguments: tuple[int, ...]) -> bool:
    """The condition holds: the kernel looks at the low 32 bits of an argument."""
    if condition.where is not None:
        index, value = condition.where
        if arguments[index] & 0xFFFFFFFF != value:
            return False
    return is_wrong(condition, arguments[condition.index])


def edges(conditions: Sequence[Condition]) -> list[int]:
    """The values of arguments at which an answer may change, and their neighbours."""
    return sorted(
        {0, 1, 0xFFFFFFFF, 1 << 31}
        | {v + d & 0xFFFFFFFF for c in conditions for v in (*c.values, c.mask) for d in (-1, 0, 1)}
        | {c.where[1] for c in conditions if c.where}
        | {1 << bit for bit in range(32)}
    )


def core_edges(conditions: Sequence[Condition]) -> list[int]:
    """The values that conditions compare with."""
    places = {c.where[1] for c in conditions if c.where}
    return sorted({v for c in conditions for v in c.values} | places | {0, 3})


EDGES = edges(CONDITIONS)


@each_case("call", sorted({c.call for c in CONDITIONS}))
def test_call_with_conditions_is_judged_as_the_profile_says_at_every_edge(call: str) -> None:
    number = NUMBERS[call]
    own = [c for c in CONDITIONS if c.call == call]
    indexes = {c.index for c in own} | {c.where[0] for c in own if c.where}
    for index, other in itertools.product(sorted(indexes), repeat=2):
        besides = core_edges(own) if index != other else (0,)
        for value, beside in itertools.product(EDGES if index == other else edges(own), besides):
            arguments = list(plain(call))
            arguments[other], arguments[index] = beside, value
            assert judged(number, tuple(arguments)) == expected(number, tuple(arguments))


@hypothesis.settings(max_examples=examples(500))
@hypothesis.given(
    st.one_of(st.integers(0, 600), st.integers(0, 0xFFFFFFFF)),
    st.tuples(*[st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1))] * 6),
)
def test_every_call_with_any_arguments_is_judged_as_the_profile_says(
    number: int, arguments: tuple[int, ...]
) -> None:
    assert judged(number, arguments) == expected(number, arguments)


def test_each_call_is_decided_in_few_instructions_so_that_the_filter_is_installed_quickly() -> None:
    """The kernel tries every number when a run installs the filter."""
    for number in range(600):
        assert executed(number, plain(NAMES.get(number)))[1] <= 40
    assert len(CODE) < 430


def test_call_that_the_shim_lets_pass_has_passed_all_other_conditions() -> None:
    """The shim knows the call by its number alone, and the kernel carries it out as it is."""
    bounded = {c.call: c.bounded for c in CONDITIONS if c.bounded}
    assert bounded and not bounded.keys() & {c.call for c in SET_ID}
    for call, name in bounded.items():
        names_in_order = [c.bounded for c in CONDITIONS if c.call == call]
        refusals = {c.bounded for c in CONDITIONS if c.call == call and c.errno == errno.EPERM}
        assert refusals == {name}
        assert names_in_order == sorted(names_in_order), "it comes behind those that refuse"


@hypothesis.given(st.integers(0, 0xFFFFFFFF), st.data())
def test_high_bits_of_an_argument_do_not_get_past_a_condition(
    high: int, data: st.DataObject
) -> None:
    for condition in CONDITIONS:
        arguments = list(plain(condition.call))
        if condition.where is not None:
            index, value = condition.where
            arguments[index] = high << 32 | value
        wrong = data.draw(st.sampled_from([v for v in EDGES if is_wrong(condition, v)]))
        arguments[condition.index] = high << 32 | wrong
        judgement = judged(NUMBERS[condition.call], tuple(arguments))
        refused = condition.errno == errno.EPERM
        assert judgement == (NOTIFY if refused else 0x50000 | condition.errno)
        assert not refused or FILTER.refused[NUMBERS[condition.call]] == (
            condition.bounded or condition.call
        )


def is_wrong(condition: Condition, value: int) -> bool:
    """The condition refuses this value of its argument."""
    return (value & condition.mask in condition.values) != condition.inverted
