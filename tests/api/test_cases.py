"""The cases of a request: their plans, their limits, the places that refusals name; no I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from sandboxd.api.access.parameters import typed
from sandboxd.api.options import variables
from sandboxd.api.options.batch import BatchOptions
from sandboxd.api.options.cases import CaseOptions, Task, is_expected, task
from sandboxd.api.sessions.ephemeral_runs import _ends
from sandboxd.config import toml_file
from sandboxd.errors import Invalid
from sandboxd.runs.journal import JournalEvent
from sandboxd.runs.next_answer import NextAnswer
from sandboxd.runs.reply import Reply, StepEnd
from sandboxd.runtimes import Runtime
from sandboxd.store.sessions import SessionRow

from ..each_case import each_case

CONFIG = toml_file.load(None)
ROW = SessionRow("id", "name", "owner", "c", "c", 0.0)
RUNTIME = Runtime("c", "C", build="own build", exec="own exec")


def planned(options: dict[str, Any], *cases: dict[str, Any]) -> Task:
    own = [typed(case, CaseOptions, "") for case in cases]
    return task(typed(options, BatchOptions, ""), own, ROW, RUNTIME, CONFIG)


def commands(work: Task) -> list[list[str | None]]:
    """The commands of each run, the build first."""
    return [[step.command for step in plan.steps] for plan in work.plans]


def test_without_cases_there_is_one_run_whose_input_is_complete() -> None:
    work = planned({"build": "*", "exec": "x"})
    assert commands(work) == [[None, "own build", "x"]] and work.cases == ()
    assert work.plan and work.plan.stdin == b""
    assert planned({"exec": "x", "stdin": "in"}).plans[0].stdin == b"in"


def test_with_cases_the_build_is_a_run_of_its_own_and_each_case_only_exec() -> None:
    work = planned({"clean": "c", "build": "b", "exec": "*"}, {"stdin": "1"}, {"stdin": "2"})
    assert commands(work) == [["c", "b", None], [None, None, "own exec"], [None, None, "own exec"]]
    assert [case.plan.stdin for case in work.cases] == [b"1", b"2"]


@pytest.mark.parametrize("build", [{}, {"build": ""}, {"build": None}, {"clean": "*"}])
def test_request_without_a_command_for_the_build_has_no_build(build: dict[str, Any]) -> None:
    options = {key: value for key, value in build.items() if value is not None}
    assert planned({**options, "exec": "x"}, {}).plan is None


def test_request_with_many_cases_has_its_variables_checked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """512 variables, for each of a thousand cases, kept the api from all else for 1.5 s."""
    checks: list[str] = []
    checked = variables.checked

    def counted(values: Mapping[str, Any], where: str) -> dict[str, str]:
        checks.append(where)
        return checked(values, where)

    monkeypatch.setattr(variables, "checked", counted)
    work = planned({"build": "b", "exec": "x", "environ": {"NAME": "value"}}, *[{}] * 100)
    assert all(case.plan.environ["NAME"] == "value" for case in work.cases)
    assert checks == ["options.environ"] * 2  # of the build, and of all cases


def test_limits_of_a_case_win_over_those_of_the_options_one_by_one() -> None:
    options = {"exec": "x", "timeout": 5, "limits": {"exec": {"mem": "64m", "pids": 9}}}
    first, second = planned(options, {"limits": {"wall_s": 7, "mem": "32m"}}, {}).cases
    own, common = first.plan.steps[2].limits, second.plan.steps[2].limits
    assert (own.wall_s, own.memory, own.pids) == (7, 32 << 20, 9)
    assert (common.wall_s, common.memory, common.pids) == (5, 64 << 20, 9)


def test_lowered_limit_is_named_where_it_counts() -> None:
    limits = {"build": {"wall_s": 1e9}, "exec": {"wall_s": 1e9}}
    work = planned({"build": "b", "exec": "x", "limits": limits}, {})
    assert [[clamp.name for clamp in plan.clamped] for plan in work.plans] == [
        ["build.wall_s"], ["exec.wall_s"],
    ]  # fmt: skip


@each_case(
    ("options", "cases", "place"),
    [
        ({"exec": "x", "interactive": True}, [], "options.interactive"),
        ({"exec": "x", "live": True}, [{}], "options.live"),
        ({"exec": "x", "stdin": ""}, [{}], "options.stdin"),
        ({"build": "x"}, [{}], "options.exec"),
        ({"exec": "x"}, [{}] * 1001, "cases"),
        ({"exec": "x"}, [{}, {"limits": {"mem": 1}}], "cases.1.limits.mem"),
        ({"exec": "x"}, [{"limits": {"colour": 1}}], "cases.0.limits.colour"),
        ({"exec": "x"}, [{"stdin": "\ud800"}], "cases.0.stdin"),
        ({"exec": "x"}, [{"expected": "\ud800"}], "cases.0.expected"),
        ({"exec": "x", "limits": {"exec": 5}}, [{}], "options.limits.exec"),
        ({"exec": "x", "limits": {"exec": {"mem": 1}}}, [{}], "options.limits.exec.mem"),
        ({"exec": "x", "limits": {"exec": {"mem": 1}}}, [{"limits": {"pids": 2}}],
         "options.limits.exec.mem"),
    ],
)  # fmt: skip
def test_refusal_names_the_place_that_the_client_has_written(
    options: dict[str, Any], cases: list[dict[str, Any]], place: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        planned(options, *cases)
    assert set(refusal.value.data) == {place}


@each_case(
    ("output", "expected", "same"),
    [
        (b"", b"", True), (b"\n\n", b"", True), (b"a", b"a\n", True), (b"a \t\nb", b"a\nb", True),
        (b"a\r\nb\r\n", b"a\nb", True), (b" a", b"a", False), (b"a\n\nb", b"a\nb", False),
        (b"a b", b"a  b", False), (b"\xff", b"\xff\n", True), (b"\xff", b"\xfe", False),
        (b"A", b"a", False), (b"\na", b"a", False),
    ],
)  # fmt: skip
def test_output_is_expected_but_for_white_space_at_ends(
    output: bytes, expected: bytes, same: bool
) -> None:
    assert is_expected(output, expected) is same and is_expected(expected, output) is same


def ended(name: Any, items: int) -> StepEnd:
    return StepEnd(JournalEvent(name, 0, 0, False), items)


def test_items_of_a_cut_console_belong_to_the_steps_that_have_printed_them() -> None:
    first = Reply(NextAnswer("continued"), [["stdout", "1"]] * 3, ends=(ended("clean", 1),))
    later = (ended("build", 1), ended("exec", 0))
    assert [(one.event.step, one.items) for one in _ends(first, later)] == [
        ("clean", 1), ("build", 2), ("exec", 0),
    ]  # fmt: skip
    assert _ends(dataclasses.replace(first, ends=()), ()) == ()
