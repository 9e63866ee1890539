"""`sandboxd run --cases`: a build and a verdict for each case, and nothing left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .daemon import Daemon, sessions_of
from .test_holders import program
from .test_session_commands import sandboxd

PROGRAM = 'read a b; [ "$a" = 9 ] && exit 3; [ "$a" = 8 ] && sleep 60; echo $((a + b))\n'


@pytest.fixture
def cases(tmp_path: Path, daemon: Daemon) -> Iterator[str]:
    """A directory with one case of each outcome, in the order of their numbers."""
    folder = tmp_path / "cases"
    folder.mkdir()
    files = {"1.in": "1 2\n", "1.out": "3", "2.in": "2 2\n", "2.ans": "5\n", "10.in": "9 1\n",
             "8.in": "8 1\n"}  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
    yield str(folder)
    assert sessions_of(daemon.state) == {}


def outcomes(text: str) -> list[str]:
    """The lines without times and sizes."""
    return [line.rsplit(",", 2)[0] for line in text.splitlines()]


def test_each_case_has_a_line_with_its_outcome(daemon: Daemon, cases: str, tmp_path: Path) -> None:
    place = program(tmp_path, PROGRAM)
    done = sandboxd(daemon, "run", place, "--exec", "*", "--cases", cases, "--limit", "wall_s=5")
    assert outcomes(done.stdout) == [
        "1: passed", "2: wrong output", "8: limit wall_s", "10: exit code 3",
    ], done.stderr  # fmt: skip
    assert done.returncode == 1


def test_cases_of_a_file_have_limits_of_their_own(daemon: Daemon, tmp_path: Path) -> None:
    listed = [{"name": "slow", "stdin": "8 1\n", "limits": {"wall_s": 0.5}},
              {"name": "good", "stdin": "1 1\n", "expected": "2"}]  # fmt: skip
    (tmp_path / "cases.json").write_text(json.dumps(listed))
    run = ("run", program(tmp_path, PROGRAM), "--exec", "*", "--json", "--cases")
    done = sandboxd(daemon, *run, str(tmp_path / "cases.json"))
    *events, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["name"], event["verdict"]["outcome"]) for event in events] == [
        ("slow", "limit"), ("good", "success"),
    ]  # fmt: skip
    assert (events[1]["passed"], end) == (True, {"event": "end", "exitCode": 1})


def test_first_failure_ends_the_cases_on_request(
    daemon: Daemon, cases: str, tmp_path: Path
) -> None:
    place = program(tmp_path, PROGRAM)
    done = sandboxd(daemon, "run", place, "--exec", "*", "--cases", cases, "--stop-on-failure")
    assert outcomes(done.stdout) == ["1: passed", "2: wrong output"]


def test_build_that_fails_is_shown_and_runs_no_case(
    daemon: Daemon, cases: str, tmp_path: Path
) -> None:
    options = ("--build", "echo not today; exit 4", "--exec", "*", "--cases", cases)
    done = sandboxd(daemon, "run", program(tmp_path, PROGRAM), *options)
    assert (done.stdout, done.returncode) == ("not today\n", 4)
    assert "no case was run" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cases", "/nowhere"], "No such file"),
        (["--cases", "EMPTY"], "a file NAME.in for each"),
        (["--cases", "CASES", "--get", "x"], "--get: not together with --cases"),
        (["--cases", "CASES", "--keep"], "--keep: not together"),
    ],
)
def test_mistakes_with_cases_are_one_line(
    daemon: Daemon, cases: str, tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    words = {"EMPTY": str(tmp_path / "empty"), "CASES": cases}
    place = program(tmp_path, PROGRAM)
    done = sandboxd(daemon, "run", place, "--exec", "*", *[words.get(o, o) for o in options])
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
