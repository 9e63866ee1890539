"""Contract of batch runs over HTTP, held by the real daemon and by the fake of the api's tests."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ..waiting import until
from .hosts import Host

Result = dict[str, Any]
KEYS = {"runId", "status", "exitCode", "options", "files", "console", "verdict"}


def text(results: list[Result], stream: str = "stdout") -> str:
    """The text of a stream, in all results together."""
    return "".join(data for r in results for kind, data in r["console"] if kind == stream)


def ends(results: list[Result]) -> list[tuple[str, int | None]]:
    """The ends of the steps."""
    return [(r["status"], r["exitCode"]) for r in results if r["status"] != "continued"]


def test_clean_build_and_exec_end_in_results_of_their_own(host: Host, session: str) -> None:
    results = host.follow(
        session, "r",
        clean=host.program(("out", "c"), ("exit", "4")),
        build=host.program(("err", "warning")),
        exec=host.program(("out", "e"), ("exit", "3")),
    )  # fmt: skip
    assert ends(results) == [("clean-finished", 4), ("build-finished", 0), ("finished", 3)]
    assert (text(results), text(results, "stderr")) == ("c\ne\n", "warning\n")
    assert all(set(result) >= KEYS for result in results if result["status"] != "continued")


def test_call_that_waits_has_the_results_of_all_steps_in_one(host: Host, session: str) -> None:
    result = host.call(
        session, "batch", "r", wait=60,
        build=host.program(("out", "b")),
        exec=host.program(("out", "e"), ("err", "x"), ("exit", "3")),
    )  # fmt: skip
    assert (result["status"], result["exitCode"]) == ("finished", 3)
    assert (text([result]), text([result], "stderr")) == ("b\ne\n", "x\n")
    steps = [(one["step"], one["exitCode"], one["items"]) for one in result["steps"]]
    assert steps == [("clean", 0, 0), ("build", 0, 1), ("exec", 3, 2)]
    assert host.call(session, "continue", "r", wait=60) == result


@pytest.mark.parametrize("absent", [None, ""])
def test_absent_step_is_skipped_and_has_a_result(
    host: Host, session: str, absent: str | None
) -> None:
    results = host.follow(session, "r", clean=absent, build=host.program(("out", "b")), exec=absent)
    assert ends(results) == [("clean-finished", 0), ("build-finished", 0), ("finished", 0)]
    assert text(results) == "b\n"
    outcomes = [r["verdict"]["outcome"] for r in results if r["status"] != "continued"]
    assert (outcomes[0], outcomes[2]) == ("skipped", "skipped")


def test_exec_after_a_failed_build_is_not_run_and_ends_with_127(host: Host, session: str) -> None:
    results = host.follow(
        session, "r", build=host.program(("exit", "2")), exec=host.program(("out", "never"))
    )
    assert ends(results)[1:] == [("build-finished", 2), ("finished", 127)]
    assert text(results) == ""


def test_run_that_a_time_limit_ends_has_no_exit_code(host: Host, session: str) -> None:
    results = host.follow(session, "r", exec=host.program(("timeout",)), timeout=0.5)
    assert ends(results)[-1] == ("exec-timeout", None)


def test_last_result_of_a_run_can_be_fetched_again(host: Host, session: str) -> None:
    results = host.follow(session, "r", exec=host.program(("out", "once"), ("exit", "6")))
    assert host.call(session, "continue", "r") == results[-1]


def test_batch_call_that_is_repeated_joins_its_run(host: Host, session: str) -> None:
    program = host.program(("await", "go"), ("out", "once"))
    assert host.call(session, "batch", "r", exec=program)["status"] == "clean-finished"
    assert host.call(session, "batch", "r", exec=program)["status"] == "build-finished"
    host.upload(session, "go")
    assert text(host.follow(session, "r")) == "once\n"
    again = host.follow(session, "r", exec=host.program(("out", "twice")))
    assert text(again) == "twice\n", "a run that is over does not keep its name"


def test_batch_call_with_other_options_is_refused_while_its_run_goes_on(
    host: Host, session: str
) -> None:
    host.call(session, "batch", "r", exec=host.program(("await", "go")))
    options = {"exec": host.program(("out", "x"))}
    assert host.post(session, mode="batch", runId="r", options=options).status_code == 400
    host.upload(session, "go")


def test_run_that_waits_says_its_position(host: Host, session: str) -> None:
    for run in ("a", "b"):
        host.call(session, "batch", run, clean=host.program(("await", "go")))
    waits = host.call(session, "batch", "c", exec=host.program(("out", "c")))
    assert (waits["status"], waits["console"]) == ("continued", [])
    assert waits["queue"] == {"position": 2, "reason": "other runs of this session come first"}
    host.upload(session, "go")
    assert text(host.follow(session, "c")) == "c\n"


@pytest.mark.parametrize(
    ("typed", "end", "got"), [("one", False, r"got 'one\n'"), ("", True, "got ''")]
)
def test_program_that_waits_for_input_gets_it(
    host: Host, session: str, typed: str, end: bool, got: str
) -> None:
    result = host.call(session, "batch", "r", exec=host.program(("ask",)))
    while result["status"] != "waiting-input":
        result = host.call(session, "continue", "r")
    answer = host.post(session, mode="input", runId="r", code=typed, options={"eof": end})
    results = [answer.json()["result"]]
    while results[-1]["status"] != "finished":
        results.append(host.call(session, "continue", "r"))
    assert text(results) == f"{got}\n"


@pytest.mark.parametrize("stdin", ["one\ntwo 한", ""])
def test_standard_input_that_comes_with_the_call_is_read_to_its_end(
    host: Host, session: str, stdin: str
) -> None:
    assert text(host.follow(session, "r", exec=host.program(("stdin",)), stdin=stdin)) == stdin


def test_new_files_of_the_output_directory_are_listed(host: Host, session: str) -> None:
    host.follow(session, "a", exec=host.program(("touch", ".output/old"), ("sleep", "0.2")))
    results = host.follow(session, "b", exec=host.program(("touch", ".output/sub/new")))
    (file,) = results[-1]["files"]
    assert file["name"] == "sub/new"
    assert b"made" in host.http.get(file["url"]).content


def test_delete_ends_a_run_and_answers_the_call_that_waits(host: Host) -> None:
    """A call that comes after the deletion is answered 404. Then no call has waited, and another
    session is tried."""
    last: Result = {}
    until(lambda: last.update(_deleted_during_a_call(host)) or "exitCode" in last)
    assert (last["status"], last["exitCode"]) == ("finished", 130)


def _deleted_during_a_call(host: Host) -> Result:
    """The last result of a run whose session was deleted; {} when no call waited for it then."""
    id = host.http.post("/session", json={"image": "c"}).json()["sessionId"]
    results: list[Result] = []

    def poll() -> None:
        options: dict[str, Any] = {"exec": host.program(("await", "never"))}
        body: dict[str, Any] = {"mode": "batch", "runId": "r", "options": options}
        with host.new_client() as own:
            while not results or results[-1].get("status") not in (None, "finished"):
                answer = own.post(f"/session/{id}", json=body)
                results.append({} if answer.status_code == 404 else answer.json()["result"])
                body = {"mode": "continue", "runId": "r"}

    with ThreadPoolExecutor() as pool:
        polling = pool.submit(poll)
        until(lambda: len(results) >= 2)
        assert host.http.delete(f"/session/{id}").status_code == 200
        polling.result()
    assert host.http.get(f"/session/{id}").status_code == 404
    return results[-1]


def test_interrupted_run_frees_the_session(host: Host, session: str) -> None:
    host.call(session, "batch", "r", exec=host.program(("sleep", "600")))
    while host.call(session, "continue", "r")["status"] != "continued":
        pass  # until exec has begun
    assert host.http.post(f"/session/{session}/interrupt").status_code == 204
    assert host.follow(session, "r")[-1]["exitCode"] == 130
    assert text(host.follow(session, "next", exec=host.program(("out", "on")))) == "on\n"


@pytest.mark.parametrize("data", [b"", b"one\ntwo", bytes(range(256)) * 1000], ids=len)
def test_streamed_input_and_exact_output_are_byte_for_byte_the_same(
    host: Host, session: str, data: bytes
) -> None:
    program = host.program(("stdin",))
    result = host.call(session, "batch", "r", exec=program, input="stream", console="base64")
    results = [result]
    answer = host.http.put(f"/session/{session}/stdin?runId=r", content=data)
    assert answer.json() == {"bytes": len(data), "closed": False}
    while results[-1]["status"] != "finished":
        results.append(host.call(session, "continue", "r", input="stream", console="base64"))
    assert b"".join(base64.b64decode(d) for r in results for k, d in r["console"]) == data
    assert "waiting-input" not in [r["status"] for r in results]


@pytest.mark.parametrize("prompt", ["", "Name: "])
def test_first_question_of_a_program_that_has_printed_nothing_is_explained_once(
    host: Host, session: str, prompt: str
) -> None:
    acts = [("out", prompt)] if prompt else []
    result = host.call(session, "batch", "r", exec=host.program(*acts, ("ask",), ("ask",)))
    results = [result]
    while results[-1]["status"] != "finished":
        mode = "input" if results[-1]["status"] == "waiting-input" else "continue"
        body = {"mode": mode, "code": "x", "runId": "r"}
        results.append(host.post(session, **body).json()["result"])
    logs = [d for r in results for kind, d in r["console"] if kind == "log"]
    assert ["fflush(stdout)" in text for _, _, _, text in logs] == ([] if prompt else [True])


def test_client_that_names_its_place_gets_the_output_behind_it(host: Host, session: str) -> None:
    host.follow(session, "r", exec=host.program(("out", "0123456789"), ("out", "é")))
    for place in range(14):
        offset = {"console": place, "steps": 3}
        result = host.call(session, "continue", "r", offset=offset, console="base64")
        data = b"".join(base64.b64decode(d) for _, d in result["console"])
        assert data == "0123456789\né\n".encode()[place:]
        assert result["offset"] == {"console": 14, "steps": 3}
