"""Conversations: a program with a terminal of its own, through the API and `sandboxd run`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from .daemon import Daemon, follow, run
from .test_run import sandboxd
from .test_shell import Emulator

Make = Callable[..., str]

C = rb"""
#include <stdio.h>
int main(void) {
    char name[20];
    int age;
    printf("name? ");
    if (scanf("%19s", name) != 1) return 8;
    printf("age? ");
    if (scanf("%d", &age) != 1) return 9;
    printf("%s is %d\n", name, age);
    fprintf(stderr, "asked twice\n");
    return 3;
}
"""
NO_FLUSH = "fflush(stdout)"


def upload(http: httpx.Client, id: str) -> None:
    http.post(f"/session/{id}/upload", files={"src": ("main.c", C)}).raise_for_status()


def until_question(http: httpx.Client, id: str, call: dict[str, Any]) -> str:
    """The standard output of the results up to the next question."""
    text = ""
    while True:
        answer = http.post(f"/session/{id}", json={"code": "", "runId": "r"} | call)
        result = answer.raise_for_status().json()["result"]
        text += "".join(data for kind, data in result["console"] if kind == "stdout")
        assert not any(NO_FLUSH in data[3] for kind, data in result["console"] if kind == "log")
        if result["status"] == "waiting-input":
            return text
        assert result["status"] not in ("finished", "exec-timeout"), result
        call = {"mode": "continue"}


@pytest.mark.needs("gcc")
def test_prompts_of_a_c_program_come_with_its_questions(http: httpx.Client, session: Make) -> None:
    id = session()
    upload(http, id)
    options = {"build": "*", "exec": "./main", "interactive": True}
    assert until_question(http, id, {"mode": "batch", "options": options}) == "name? "
    answer = {"mode": "input", "code": "Kim", "options": options}
    assert until_question(http, id, answer) == "age? "
    end = follow(http, id, {"mode": "input", "code": "33", "runId": "r", "options": options})
    assert end.text("stdout") == "Kim is 33\n"  # neither echo nor carriage return
    assert end.text("stderr") == "asked twice\n"
    assert end.exits == [3]
    usage = end.results[-1]["verdict"]["usage"]
    assert usage["stdout_bytes"] == len("name? age? Kim is 33\n")


@pytest.mark.needs("gcc")
def test_without_the_option_the_first_question_has_no_prompt(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    upload(http, id)
    call: dict[str, Any] = {"mode": "batch", "options": {"build": "*", "exec": "./main"}}
    console: list[Any] = []
    while True:
        answer = http.post(f"/session/{id}", json={"code": "", "runId": "r"} | call)
        result = answer.json()["result"]
        console += result["console"]
        if result["status"] == "waiting-input":
            break
        call = {"mode": "continue"}
    assert [kind for kind, _ in console] == ["log"]
    assert "options.interactive" in console[0][1][3]


def test_end_of_input_is_one_for_all_programs_of_the_step(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    options = {"exec": "cat; cat; read x; echo $?", "interactive": True}
    assert until_question(http, id, {"mode": "batch", "options": options}) == ""
    ended = {"mode": "input", "code": "", "runId": "r", "options": {"eof": True}}
    assert follow(http, id, ended).text("stdout") == "1\n"


def test_streamed_input_is_read_from_the_terminal(http: httpx.Client, session: Make) -> None:
    id = session()
    data = b"".join(b"line %d\n" % number for number in range(100_000))
    options = {"exec": "test -t 0 && md5sum", "interactive": True, "input": "stream"}
    call = {"mode": "batch", "code": "", "runId": "r", "options": options}
    http.post(f"/session/{id}", json=call).raise_for_status()
    taken = http.put(f"/session/{id}/stdin?runId=r", content=data).raise_for_status().json()
    assert taken["bytes"] == len(data)
    outcome = follow(http, id, {"mode": "continue", "code": "", "runId": "r"})
    assert outcome.text("stdout").split()[0] == hashlib.md5(data).hexdigest()


def test_interrupt_is_sigint_for_the_program(http: httpx.Client, session: Make) -> None:
    id = session()
    options = {"exec": "trap 'echo caught; exit 5' INT; read x", "interactive": True}
    until_question(http, id, {"mode": "batch", "options": options})
    http.post(f"/session/{id}/interrupt").raise_for_status()
    outcome = follow(http, id, {"mode": "continue", "code": "", "runId": "r"})
    assert (outcome.text("stdout"), outcome.exits) == ("caught\n", [5])


def test_complete_input_and_a_conversation_exclude_each_other(
    http: httpx.Client, session: Make
) -> None:
    call = {"mode": "batch", "options": {"exec": "true", "interactive": True, "stdin": "x"}}
    answer = http.post(f"/session/{session()}", json=call)
    assert answer.status_code == 400
    assert "options.interactive" in answer.text


def test_time_limit_of_a_conversation_ends_it(http: httpx.Client, session: Make) -> None:
    options = {"exec": "echo begin; sleep 60", "timeout": 5, "interactive": True}
    outcome = run(http, session(), options)
    assert outcome.statuses[-1] == "exec-timeout"
    assert outcome.text("stdout") == "begin\n"


@contextmanager
def person(daemon: Daemon, *args: str) -> Iterator[Emulator]:
    """A person at a terminal who types `sandboxd run` with these arguments."""
    options = "--quiet", "--socket", f"{daemon.folder}/api.sock"
    with closing(Emulator("run", *args, *options)) as emulator:
        yield emulator


@pytest.mark.needs("gcc")
def test_person_at_a_terminal_talks_with_a_program(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_bytes(C)
    with person(daemon, str(tmp_path)) as it:
        it.until("name? ")
        it.type("Kim\n")
        assert it.until("age? ") == "Kim\r\n"  # the echo of the person's own terminal, once
        it.type("33\n")
        assert it.until("Kim is 33\r\n") == "33\r\n"
        assert it.end() == 3


def test_ctrl_d_and_ctrl_c_at_a_terminal_reach_the_program(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("cat; trap 'echo caught; exit 5' INT; echo slept; sleep 60\n")
    with person(daemon, str(tmp_path), "--exec", "echo ready; . ./main.sh") as it:
        it.until("ready\r\n")
        it.type("text\n\x04")
        it.until("text\r\ntext\r\nslept\r\n")
        it.type("\x03")
        it.until("caught\r\n")
        assert it.end() == 5


def test_line_of_sandboxd_after_ctrl_c_is_a_line_of_its_own(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("")
    options = "--exec", "echo ready; sleep 60", "--socket", f"{daemon.folder}/api.sock"
    with closing(Emulator("run", str(tmp_path), *options)) as it:
        it.until("ready\r\n")
        it.type("\x03")
        assert it.until("sandboxd: interrupting") == "^C\r\n"
        assert it.end() == 130


@pytest.mark.parametrize(
    ("options", "terminal"), [([], True), (["--no-interactive"], False), (["--json"], False)]
)
def test_command_at_a_terminal_has_a_terminal_for_the_program_by_default(
    daemon: Daemon, tmp_path: Path, options: list[str], terminal: bool
) -> None:
    (tmp_path / "main.sh").write_text("test -t 1 && echo has one || echo has none\n")
    with person(daemon, str(tmp_path), "--exec", "bash main.sh", *options) as it:
        it.until("has one" if terminal else "has none")
        assert it.end() == 0


def test_command_in_a_pipe_has_none_unless_it_is_requested(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("test -t 0 && test -t 1 && echo has one; cat\n")
    common = ["run", str(tmp_path), "-q", "--exec", "*", "--socket", f"{daemon.folder}/api.sock"]
    assert sandboxd(*common, stdin="x\n").stdout == "x\n"
    assert sandboxd(*common, "-i", stdin="x\n").stdout == "has one\nx\n"
