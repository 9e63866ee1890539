"""Limits over HTTP: as clients ask for them, lowered where they must be, told when they are met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .daemon import Outcome, run

Make = Callable[..., str]


def verdict(outcome: Outcome) -> dict[str, Any]:
    last: dict[str, Any] = outcome.results[-1]["verdict"]
    return last


def test_limits_of_a_step_hold(http: httpx.Client, session: Make) -> None:
    limits = {"mem": "64m", "pids": 9, "nofile": 20, "fsize": "1m", "cpus": 0.5, "output": 100}
    ask = "ulimit -n; ulimit -f; yes | head -c 1000"
    outcome = run(http, session(), {"exec": ask, "limits": {"exec": limits}})
    assert outcome.text("stdout") == ("20\n1024\n" + "y\n" * 50)[:100]
    assert verdict(outcome)["limit"] == "output"
    assert verdict(outcome)["usage"]["cut_bytes"] == 1008 - 100


def test_what_is_lowered_is_reported_in_the_result_and_in_a_log(
    http: httpx.Client, session: Make
) -> None:
    id = session(resources={"mem": "100m"}, resource_opts={"pids": 20})
    limits = {"mem": "200m", "pids": 30, "disk": "1t", "nofile": 1 << 30, "fsize": "9t"}
    outcome = run(http, id, {"exec": "true", "limits": {"exec": limits}})
    lowered = ["exec.disk", "exec.fsize", "exec.mem", "exec.nofile", "exec.pids"]
    assert outcome.results[-1]["clamped"] == lowered
    assert all(f"{name} was lowered" in outcome.text("log") for name in lowered)


def test_lowered_resources_of_a_session_are_reported_to_its_first_run(
    http: httpx.Client, session: Make
) -> None:
    id = session(resources={"mem": "999g"}, resource_opts={"nofile": 1 << 30})
    text = run(http, id, {"exec": ":"}).text("log")
    assert "limits of this session: mem was lowered from " in text
    assert "nofile was lowered from " in text and "to 4 GiB" in text
    assert run(http, id, {"exec": ":"}).text("log") == ""


def test_cause_of_death_is_reported_to_old_clients_in_a_log(
    http: httpx.Client, session: Make
) -> None:
    id = session(resources={"mem": "64m"})
    grab = "/usr/bin/python3 -c 'x = bytearray(200 << 20)'"
    outcome = run(http, id, {"build": grab, "exec": "true"})
    (line,) = outcome.text("log").splitlines()
    assert line.startswith("build: memory limit of 64 MiB reached") and "resources.mem" in line
    assert outcome.exits == [0, 137, 127]
    denied = "import ctypes; exit(ctypes.CDLL(None).syscall(165, 0, 0, 0, 0, 0))"
    outcome = run(http, id, {"exec": f"/usr/bin/python3 -c '{denied}'"})
    assert verdict(outcome)["denied_syscall"] == "mount"
    assert "mount" in outcome.text("log")


RECURSION = """
#include <stdio.h>
#include <string.h>
static int deeper(int left) {
    volatile char frame[1 << 20];
    memset((void *)frame, left, sizeof frame);
    return left ? deeper(left - 1) + frame[5] - frame[5] : frame[9];
}
int main(void) { printf("%d\\n", deeper(100)); return 0; }
"""


@pytest.mark.parametrize(
    ("stack", "expected"),
    [(None, ("signal", "SIGSEGV")), ("16m", ("signal", "SIGSEGV")),
     ("unlimited", ("success", None)), ("128m", ("success", None))],
)  # fmt: skip
def test_100_mib_of_recursion_need_a_larger_stack(
    http: httpx.Client, session: Make, stack: str | None, expected: tuple[str, str | None]
) -> None:
    limits = {"mem": "512m"} | ({"stack": stack} if stack else {})
    source = f"cat > r.c <<'E'\n{RECURSION}\nE\n"
    build = f"{source}gcc -O0 r.c -o r"
    outcome = run(http, session(), {"build": build, "exec": "exec ./r", "limits": {"exec": limits}})
    assert (verdict(outcome)["outcome"], verdict(outcome)["signal"]) == expected
    if expected[1]:
        assert "limits.exec.stack" in outcome.text("log")


def test_unlimited_stack_ends_at_the_limit_of_memory(http: httpx.Client, session: Make) -> None:
    id = session(resource_opts={"stack": "unlimited"})
    build = f"cat > r.c <<'E'\n{RECURSION}\nE\ngcc -O0 r.c -o r; ulimit -s"
    limits = {"exec": {"mem": "64m"}}
    outcome = run(http, id, {"build": build, "exec": "exec ./r", "limits": limits})
    assert outcome.text("stdout") == "unlimited\n"
    assert (verdict(outcome)["outcome"], verdict(outcome)["limit"]) == ("limit", "memory")


@pytest.mark.parametrize("command", ["yes", "head -c 3000 /dev/zero | tr '\\0' y", "yes 1>&2"])
def test_output_above_output_end_ends_the_step(
    http: httpx.Client, session: Make, command: str
) -> None:
    options = {"build": command, "exec": "echo on", "limits": {"build": {"output_end": 1000}}}
    outcome = run(http, session(), options)
    build = outcome.results[-2]["verdict"]
    assert (build["outcome"], build["limit"], build["sent_by"]) == ("limit", "output", "sandboxd")
    assert build["usage"]["stdout_bytes"] + build["usage"]["stderr_bytes"] <= 1 << 22
    assert len(outcome.text("stdout") + outcome.text("stderr")) == 1000
    assert "limits.build.output_end" in outcome.text("log")
    assert outcome.exits[-2] == 137


def test_output_of_exactly_output_end_is_no_reason(http: httpx.Client, session: Make) -> None:
    options = {"exec": "yes | head -c 1000", "limits": {"exec": {"output_end": 1000}}}
    outcome = run(http, session(), options)
    assert verdict(outcome)["outcome"] == "success" and len(outcome.text("stdout")) == 1000


def test_success_and_plain_failure_are_reported_without_a_log(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    for code in (0, 3):
        assert run(http, id, {"exec": f"exit {code}"}).text("log") == ""


def test_output_that_was_cut_is_reported_though_the_program_succeeds(
    http: httpx.Client, session: Make
) -> None:
    loud = {"exec": "head -c 5000 /dev/zero | tr '\\0' x", "limits": {"exec": {"output": 1000}}}
    outcome = run(http, session(), loud)
    assert (verdict(outcome)["outcome"], verdict(outcome)["limit"]) == ("success", "output")
    assert outcome.text("stdout") == "x" * 1000
    assert "4000 bytes were cut" in outcome.text("log")


def test_repeated_final_answer_explains_again(http: httpx.Client, session: Make) -> None:
    id = session()
    outcome = run(http, id, {"exec": "nonesuch"}, "again")
    assert "not found" in outcome.text("log")
    call = {"mode": "continue", "code": "", "runId": "again"}
    again = http.post(f"/session/{id}", json=call).json()["result"]
    assert "not found" in next(data for kind, data in again["console"] if kind == "log")[3]


def test_disk_of_a_session_is_as_large_as_asked_for(http: httpx.Client, session: Make) -> None:
    id = session(resource_opts={"disk": "20m"})
    outcome = run(http, id, {"exec": "exec head -c 50M /dev/zero > big"})
    assert (verdict(outcome)["outcome"], verdict(outcome)["limit"]) == ("limit", "disk")
    outcome = run(http, id, {"clean": "rm big", "exec": "df --output=size -B1M . | tail -1"})
    assert int(outcome.text("stdout")) <= 32
    listing = http.get(f"/session/{id}/files").json()
    assert "big" not in listing["files"]
