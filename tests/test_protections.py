"""The list of protections: all that it names exists, and all that protects is in it."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

import sandboxd
from sandboxd import protections
from sandboxd.protections import HOST_RESOURCES, PROTECTIONS
from sandboxd.protections.protection import HostGuarantee, Protection
from sandboxd.selftest.runner import ATTACKS, WORKSPACE_ATTACKS
from sandboxd.warden.doctor.guarantees import PROBES, SEQUENTIAL

from .each_case import each_case
from .escape.removals import REMOVALS, Removal

PACKAGE = Path(sandboxd.__file__).parent
ROOT = PACKAGE.parent
EVERY = (*ATTACKS, *WORKSPACE_ATTACKS)
every_protection = each_case("protection", PROTECTIONS)


@functools.cache
def functions(file: Path) -> set[str]:
    """The names of the functions of a module."""
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@every_protection
def test_modules_of_a_protection_exist(protection: Protection) -> None:
    assert protection.modules
    for module in protection.modules:
        assert (PACKAGE / module).exists() or (ROOT / module).is_dir(), module


@every_protection
def test_tests_of_a_protection_exist(protection: Protection) -> None:
    assert protection.tests
    for test in protection.tests:
        file, _, function = test.partition("::")
        names = functions(ROOT / file)
        assert function in names if function else names, test


@every_protection
def test_tests_of_a_protection_are_in_every_run_of_the_suite(protection: Protection) -> None:
    for test in protection.tests:
        text = (ROOT / test.partition("::")[0]).read_text()
        assert "mark.world" not in text and "marked(" not in text, test


@every_protection
def test_attacks_of_a_protection_exist_and_one_of_them_succeeds_without_it(
    protection: Protection,
) -> None:
    assert set(protection.attacks) <= {attack.name for attack in EVERY}
    ways = [removal for removal in REMOVALS if protection.name in removal.protections]
    shown = {name for removal in ways for name in removal.attacks.split()}
    # Tests of their own show these.
    without_removal = {
        "own file system", "output", "open files", "workspaces", "set-user-ID files"
    }  # fmt: skip
    if protection.attacks and protection.name not in without_removal:
        assert shown & set(protection.attacks)


def test_every_attack_belongs_to_a_protection() -> None:
    assert [attack.name for attack in EVERY if not protections.of_attack(attack.name)] == []


@each_case("removal", REMOVALS)
def test_removal_takes_away_a_protection_of_each_of_its_attacks(removal: Removal) -> None:
    assert set(removal.protections) <= {protection.name for protection in PROTECTIONS}
    for name in removal.attacks.split():
        names = {protection.name for protection in protections.of_attack(name)}
        assert names & set(removal.protections), name


def test_every_guarantee_has_a_probe_and_every_probe_a_guarantee() -> None:
    names = [row.name for row in protections.guarantees()]
    assert sorted(names) == sorted(PROBES)
    assert set(PROBES) >= SEQUENTIAL


def test_every_guarantee_belongs_to_one_protection_or_is_a_resource_of_the_host() -> None:
    rows: list[HostGuarantee] = [row for one in PROTECTIONS for row in one.guarantees]
    assert len({row.name for row in (*rows, *HOST_RESOURCES)}) == len(rows) + len(HOST_RESOURCES)
    assert sorted(row.name for row in (*rows, *HOST_RESOURCES)) == sorted(PROBES)


def test_table_of_the_documentation_is_that_of_the_list() -> None:
    done = subprocess.run([ROOT / "scripts" / "docs", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
