"""Each attack of the self-test fails in a jail, and succeeds where its protection is taken away."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sandboxd.selftest import host_view
from sandboxd.selftest.attack import judge

from ..attacks import BY_NAME, carry_out, carry_out_in_session
from ..sandbox import BareWarden, Sandbox, lease
from .removals import ELSEWHERE, REMOVALS, Removal, own_limits_restored


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> Iterator[host_view.Canaries]:
    """Below /var/lib: the jail's /tmp is another, whatever is missing."""
    monkeypatch.setattr(tempfile, "tempdir", "/var/lib")
    with contextlib.ExitStack() as stack:
        yield host_view.Canaries(stack)


@pytest.mark.parametrize("name", BY_NAME)
def test_attack_fails_and_nothing_of_its_session_remains(
    warden: BareWarden, canaries: host_view.Canaries, name: str
) -> None:
    judgement = carry_out_in_session(warden, canaries, BY_NAME[name])
    assert judgement.held, judgement.why


CASES = [
    pytest.param(removal, name, id=f"{removal.label}: {name}")
    for removal in REMOVALS
    for name in removal.attacks.split()
]


@pytest.mark.parametrize(("removal", "name"), CASES)
def test_attack_succeeds_without_its_protection(
    sandbox: Sandbox,
    canaries: host_view.Canaries,
    monkeypatch: pytest.MonkeyPatch,
    removal: Removal,
    name: str,
) -> None:
    attack = BY_NAME[name]
    if attack.ends == "wall_s":  # it gives up after fifteen seconds
        attack = replace(attack, program=attack.program.replace("15", "2"))
    with own_limits_restored():
        removal.remove(monkeypatch)
        outcome, _ = carry_out(sandbox, canaries, attack)
    assert judge(attack, outcome).held is False


def test_every_attack_succeeds_in_some_test_or_says_why_it_cannot() -> None:
    shown = {name for removal in REMOVALS for name in removal.attacks.split()}
    assert shown <= set(BY_NAME)
    assert set(BY_NAME) - shown == set(ELSEWHERE)


def test_other_session_attack_succeeds_in_the_session_that_left_the_files(
    sandbox: Sandbox, canaries: host_view.Canaries
) -> None:
    attack = BY_NAME["other-session"]
    before = replace(attack, program=attack.before, looks="nothing")
    assert judge(before, carry_out(sandbox, canaries, before)[0]).held
    assert judge(attack, carry_out(sandbox, canaries, attack)[0]).held is False


def test_disk_attacks_succeed_on_a_disk_without_bounds(
    warden: BareWarden, canaries: host_view.Canaries
) -> None:
    large = lease(warden, size=70 << 30, inodes=5 << 20)
    try:
        for name in ("disk", "inodes"):
            assert judge(BY_NAME[name], carry_out(large, canaries, BY_NAME[name])[0]).held is False
    finally:
        warden.free(large.slot)
