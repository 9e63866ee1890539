"""POST /run: files, a build, cases and results in one request, and nothing left behind."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from ..each_case import each_case
from .bad_requests import assert_problem
from .conftest import Server
from .test_execute import text

Result = dict[str, Any]


def slots(server: Server) -> list[str]:
    """The slots that are leased."""
    return sorted(path.name for path in server.base.iterdir() if path.name.isdigit())


def recorded(server: Server) -> list[str]:
    """The ids of all sessions and runs in the database."""
    with sqlite3.connect(server.base / "sandboxd.sqlite") as connection:
        query = "SELECT id FROM sessions UNION ALL SELECT id FROM runs"
        return [id for (id,) in connection.execute(query)]


@pytest.fixture
def run(server: Server) -> Iterator[Callable[..., Result]]:
    """One request, its response; nothing of it is left afterwards."""
    before, rows = slots(server), recorded(server)

    def run(image: str = "c", **body: Any) -> Result:
        answer = server.client.post("/run", content=json.dumps({"image": image, **body}))
        assert answer.status_code == 200, answer.text
        result: Result = answer.json()
        return result

    yield run
    assert slots(server) == before and recorded(server) == rows


def content(result: Result, name: str) -> bytes:
    """A file of a result."""
    return base64.b64decode(result["files"][name]["content"])


def test_one_request_builds_runs_and_answers(run: Callable[..., Result]) -> None:
    result = run(options={"build": "out b", "exec": "out e\nexit 3"})["result"]
    assert (result["status"], result["exitCode"], text(result)) == ("finished", 3, "b\ne\n")
    assert [one["step"] for one in result["steps"]] == ["clean", "build", "exec"]
    assert result["verdict"] == result["steps"][-1]["verdict"]


def test_commands_of_the_runtime_and_variables_are_as_in_a_session(
    run: Callable[..., Result],
) -> None:
    whole = run(options={"build": "*", "exec": "*"})["result"]
    assert text(whole) == "own build\nown exec\n"
    seen = json.loads(text(run(options={"exec": "environ", "environ": {"A": "b"}})["result"]))
    assert (seen["A"], seen["OF_RUNTIME"]) == ("b", "yes")


@pytest.mark.parametrize(("stdin", "output"), [({}, ""), ({"stdin": "a\nb"}, "a\nb")])
def test_standard_input_comes_with_the_request_and_is_empty_without_it(
    run: Callable[..., Result], stdin: Result, output: str
) -> None:
    assert text(run(options={"exec": "stdin"} | stdin)["result"]) == output


def test_time_limit_and_lowered_limits_are_in_the_result(run: Callable[..., Result]) -> None:
    limits = {"build": {"wall_s": 1e9}}
    result = run(options={"exec": "out x\ntimeout", "limits": limits})["result"]
    assert (result["status"], result["exitCode"]) == ("exec-timeout", None)
    assert result["clamped"] == ["build.wall_s"]


def test_files_of_the_parameters_are_there_and_results_come_back(
    run: Callable[..., Result],
) -> None:
    files = [
        {"name": "a/b.txt", "content": "é"},
        {"name": "raw", "content": base64.b64encode(b"\xff\0").decode(), "encoding": "base64"},
    ]
    result = run(
        files=files, options={"exec": "touch out/made"}, get=["a/b.txt", "raw", "out/made"]
    )["result"]
    assert content(result, "a/b.txt") == "é".encode()
    assert content(result, "raw") == b"\xff\0" and result["files"]["raw"]["size"] == 2
    assert content(result, "out/made") == b"made by a program\n"


@pytest.mark.parametrize(
    ("name", "error"),
    [("nowhere", "does not exist"), ("a", "is a directory"), ("../x", "is outside /home/work")],
)
def test_file_that_cannot_be_returned_has_an_error_and_the_run_its_result(
    run: Callable[..., Result], name: str, error: str
) -> None:
    files = [{"name": "a/b.txt"}]
    result = run(files=files, options={"exec": "out x"}, get=[name, "a/b.txt"])["result"]
    assert error in result["files"][name]["error"] and text(result) == "x\n"
    assert content(result, "a/b.txt") == b""


def test_each_case_runs_after_one_build_with_its_own_input_and_limits(
    run: Callable[..., Result],
) -> None:
    cases = [
        {"name": "first", "stdin": "1", "expected": "1"},
        {"stdin": "2", "expected": "3"},
        {"stdin": "3", "limits": {"mem": "64m", "wall_s": 7}},
    ]
    answer = run(options={"build": "out b", "exec": "stdin\nlimits"}, cases=cases)
    assert text(answer["result"]) == "b\n"
    assert [one["name"] for one in answer["cases"]] == ["first", "", ""]
    assert [one.get("passed") for one in answer["cases"]] == [False, False, None]
    printed = [text(one) for one in answer["cases"]]
    assert [one[0] for one in printed] == ["1", "2", "3"]
    limits = json.loads(printed[2][1:])
    assert (limits["memory"], limits["wall_s"]) == (64 << 20, 7)
    assert all(one["verdict"]["outcome"] == "success" for one in answer["cases"])


@pytest.mark.parametrize(
    ("expected", "passed"),
    [("e", True), ("e\n", True), ("e \n\n", True), ("f", False), ("", False), ("e\ne", False)],
)
@pytest.mark.parametrize("console", ["text", "base64"])
def test_output_is_compared_without_white_space_at_the_ends(
    run: Callable[..., Result], console: str, expected: str, passed: bool
) -> None:
    (case,) = run(
        console=console, options={"exec": "out e\nerr x"}, cases=[{"expected": expected}]
    )["cases"]
    assert case["passed"] is passed


def test_case_that_fails_has_not_passed_whatever_it_prints(run: Callable[..., Result]) -> None:
    (case,) = run(options={"exec": "out e\nexit 1"}, cases=[{"expected": "e"}])["cases"]
    assert case["passed"] is False and case["exitCode"] == 1


def test_without_a_build_there_is_no_result_besides_the_cases(run: Callable[..., Result]) -> None:
    answer = run(options={"exec": "out e"}, cases=[{}])
    assert set(answer) == {"cases"} and text(answer["cases"][0]) == "e\n"


@pytest.mark.parametrize(
    ("stop", "cases", "count"),
    [
        (False, [{"expected": "x"}, {}], 2), (True, [{"expected": "x"}, {}], 1),
        (True, [{"expected": "e"}, {}], 2), (True, [{}, {}], 2),
    ],
)  # fmt: skip
def test_cases_stop_at_the_first_failure_if_that_is_wanted(
    run: Callable[..., Result], stop: bool, cases: list[Result], count: int
) -> None:
    answer = run(stop_on_failure=stop, options={"exec": "out e"}, cases=cases)
    assert len(answer["cases"]) == count


def test_failed_build_has_no_cases(run: Callable[..., Result]) -> None:
    answer = run(options={"build": "err no\nexit 2", "exec": "out e"}, cases=[{}, {}])
    assert answer["cases"] == [] and answer["result"]["steps"][1]["exitCode"] == 2


def test_each_case_begins_with_the_tree_of_the_build(run: Callable[..., Result]) -> None:
    """The program of the fake makes a file; a case that found it there would return it."""
    answer = run(
        files=[{"name": "input", "content": "of the build"}],
        options={"build": "touch built", "exec": "out x"},
        cases=[{"name": str(number)} for number in range(3)],
        get=["input", "built", "made"],
    )
    for case in answer["cases"]:
        assert content(case, "input") == b"of the build"
        assert content(case, "built") == b"made by a program\n"
        assert "does not exist" in case["files"]["made"]["error"]
    answer = run(options={"exec": "touch made"}, cases=[{}, {}, {}], get=["made"])
    assert [content(case, "made") for case in answer["cases"]] == [b"made by a program\n"] * 3


def test_console_of_bytes_is_base64(run: Callable[..., Result]) -> None:
    (item,) = run(console="base64", options={"exec": "stdin", "stdin": "é"})["result"]["console"]
    assert item[0] == "stdout" and base64.b64decode(item[1]) == "é".encode()


# -- forms


def form(http: httpx.Client, *parts: Any, **body: Any) -> httpx.Response:
    """A form with the parameters first."""
    parameters = {"image": "c", "options": {"exec": "out e"}} | body
    return http.post("/run", files=[("run", (None, json.dumps(parameters))), *parts])


def test_form_has_the_parameters_and_files(http: httpx.Client) -> None:
    parts = [("src", ("x/y", b"data")), ("src", ("empty", b""))]
    result = form(http, *parts, get=["x/y", "empty"]).json()["result"]
    assert content(result, "x/y") == b"data" and content(result, "empty") == b""


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_form_has_the_parameters_and_an_archive(http: httpx.Client, mode: Any) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        member = tarfile.TarInfo("deep/file")
        member.size = 300_000
        tar.addfile(member, io.BytesIO(b"x" * 300_000))
    part = ("archive", ("tree.tar", buffer.getvalue()))
    result = form(http, part, get=["deep/file"]).json()["result"]
    assert content(result, "deep/file") == b"x" * 300_000


@each_case(
    ("parts", "words"),
    [
        ([("archive", ("a", b"no tar"))], "archive"),
        ([("x", (None, b"text"))], "filename"),
        ([("x", ("../up", b""))], "is outside"),
        ([("x", (f"f{number}", b"")) for number in range(21)], "maximum 20"),
        ([("x", ("large", bytes((1 << 20) + 1)))], "maximum 1048576"),
        ([("run", (None, b"{}"))], "not taken"),
        ([("x", ("f", b"")), ("archive", ("a", b""))], "not taken"),
    ],
)
def test_form_that_is_not_valid_is_refused_and_leaves_nothing(
    server: Server, parts: list[Any], words: str
) -> None:
    before = slots(server)
    answer = form(server.client, *parts)
    assert_problem(answer, 400)
    assert words in answer.text and slots(server) == before


def test_form_whose_first_part_is_a_file_is_refused(server: Server) -> None:
    before = slots(server)
    answer = server.client.post("/run", files={"x": ("f", b"data")})
    assert_problem(answer, 400)
    assert "first part" in answer.json()["msg"] and slots(server) == before


# -- refusals


@each_case(
    ("wrong", "field"),
    [
        ({"image": 5}, "image"), ({"options": {"colour": "red"}}, "options.colour"),
        ({"later": 1}, "later"), ({"options": {"interactive": True}}, "options.interactive"),
        ({"options": {"live": True}}, "options.live"), ({"get": "x"}, "get"),
        ({"get": ["x"] * 65}, "get"), ({"get": ["x" * 5000]}, "get"),
        ({"files": [5]}, "files.0"), ({"files": [{"content": "x"}]}, "files.0"),
        ({"files": [{"name": "a", "colour": "red"}]}, "files.0.colour"),
        ({"files": [{"name": "a", "content": "?", "encoding": "base64"}]}, "files.0.content"),
        ({"files": [{"name": "a", "mode": "777"}]}, "files.0.mode"),
        ({"cases": [5]}, "cases.0"), ({"cases": [{}, {"colour": 1}]}, "cases.1.colour"),
        ({"cases": [{}], "options": {"exec": "x", "stdin": "y"}}, "options.stdin"),
        ({"cases": [{}], "options": {"build": "x"}}, "options.exec"),
        ({"cases": [{"limits": {"wall_s": 0}}]}, "cases.0.limits.wall_s"),
        ({"cases": [{}, {"limits": {"gpu": 1}}]}, "cases.1.limits.gpu"),
        ({"cases": [{"stdin": "\ud800"}]}, "cases.0.stdin"),
        ({"cases": [{"expected": "\ud800"}]}, "cases.0.expected"),
        ({"cases": [{"limits": {"wall_s": 1}}], "options": {"exec": "x",
          "limits": {"exec": {"mem": 1}}}}, "options.limits.exec.mem"),
        ({"cases": [{}] * 1001}, "cases"), ({"max_wait": -1}, "max_wait"),
        ({"console": "hex"}, "console"), ({"options": {"exec": "x" * 140_000}}, "options"),
    ],
)  # fmt: skip
def test_parameter_that_cannot_be_honoured_is_refused_by_name(
    server: Server, wrong: Result, field: str
) -> None:
    before = slots(server)
    body = {"image": "c", "options": {"exec": "out e"}} | wrong
    answer = server.client.post("/run", content=json.dumps(body).encode())
    assert_problem(answer, 400, "/invalid-api-params")
    assert field in answer.json()["data"], answer.text
    assert slots(server) == before


def test_request_with_too_many_cases_is_refused_before_each_is_looked_at(
    http: httpx.Client,
) -> None:
    answer = http.post("/run", json={"image": "c", "cases": [{"colour": 1}] * 30_000})
    assert_problem(answer, 400, "/invalid-api-params")
    assert set(answer.json()["data"]) == {"cases"}, answer.text


def test_unknown_image_is_404_with_the_images_that_are_there(http: httpx.Client) -> None:
    answer = http.post("/run", json={"image": "nonsense"})
    assert_problem(answer, 404)
    assert "c" in answer.json()["data"]["available"]
