"""The attacks as data, and the judgement of their outcome."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from sandboxd import protections
from sandboxd.selftest import attack as attacks
from sandboxd.selftest.attack import Attack, AttackOutcome, Canary, judge, source
from sandboxd.selftest.runner import ATTACKS, WORKSPACE_ATTACKS

from ..each_case import each_case

ATTACK = Attack("a", "files", "x", "")
MEMORY = replace(ATTACK, ends="memory")
CUT = replace(ATTACK, ends="cut")
PRINTED = "x" * attacks.PRINTED


EVERY = (*ATTACKS, *WORKSPACE_ATTACKS)


def test_names_of_attacks_are_unique() -> None:
    names = [attack.name for attack in EVERY]
    assert len(set(names)) == len(names) >= 90


def test_attacks_are_of_every_kind_and_of_no_other() -> None:
    assert {attack.kind for attack in ATTACKS} == set(protections.KINDS)
    with pytest.raises(ValueError, match="not a kind"):
        attacks.of("nonsense")


@each_case("attack", EVERY)
def test_program_of_an_attack_is_python(attack: Attack) -> None:
    for program in (attack.program, attack.before):
        compile(source(program, {}, Canary(), "", "token"), attack.name, "exec")


@each_case(
    ("attack", "outcome", "held"),
    [
        (ATTACK, AttackOutcome("held\n", "", 0), True),
        (ATTACK, AttackOutcome("broken: it\nheld\n", "", 0), False),
        (ATTACK, AttackOutcome("held\n", "", 0, host=("seen",)), False),
        (ATTACK, AttackOutcome("", "Traceback\nMemoryError", 1), None),
        (ATTACK, AttackOutcome("not held\nheldx\n", "", 0), None),
        (MEMORY, AttackOutcome("", "", 137, limit="memory"), True),
        (MEMORY, AttackOutcome("held\n", "", 0), False),
        (CUT, AttackOutcome("x", "", 0), True),
        (CUT, AttackOutcome(PRINTED, "", 0), False),
        (CUT, AttackOutcome("x", "", 1), None),
    ],
)  # fmt: skip
def test_attack_is_held_broken_or_undecided_by_its_outcome(
    attack: Attack, outcome: AttackOutcome, held: bool | None
) -> None:
    assert judge(attack, outcome).held is held


def test_every_call_that_an_attack_names_has_a_number() -> None:
    """Without one the program would take the call for one that the filter does not know."""
    pattern = r"\b(?:call|filtered)\([\"'](\w+)[\"']"
    names = {name for one in EVERY for name in re.findall(pattern, one.program)}
    assert {"mount", "pidfd_getfd", "prctl"} <= names <= set(attacks.NAMES)
