"""An advice names what the user of its reader can type: the CLI, the official client, the API."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from typing import Any

import httpx

from sandboxd.api.options.wording import NO_MORE, Reader, Wording
from sandboxd.cli.main import parser
from sandboxd.config.settings import STEP_LIMITS, Config
from sandboxd.jail.cgroup import Counters
from sandboxd.model import MIB, Limits, Step, StepName
from sandboxd.shim import advice
from sandboxd.shim.facts import StepFacts
from sandboxd.shim.verdict import judge

from ..each_case import each_case

OFFICIAL = "Backend.AI Client for Python 23.09.10"
LIMITS: Limits = replace(STEP_LIMITS, disk=1 * MIB, inodes=50, shm=1 * MIB, output=1 * MIB)


def step(name: StepName = "exec", **limits: Any) -> Step:
    """A step with these limits."""
    return Step(name, "true", replace(LIMITS, **limits))


def worded(
    text: str, agent: str, at: Step | None = None, session: dict[str, Any] | None = None
) -> str:
    """The advice for a client that calls itself `agent`."""
    wording = Wording.of({"user-agent": agent}, Config())
    return wording.advice(text, at or step(), session or {})


ENDED = ("wall_s", "cpu_s", "memory", "pids", "disk", "inodes", "shm", "fsize", "nofile")
FACTS = {
    **{f"ended by {name}": StepFacts(LIMITS, status=None, ended_by=name) for name in ENDED},
    "killed for memory": StepFacts(LIMITS, status=signal.SIGKILL, after=Counters(oom_kills=1)),
    "disk full": StepFacts(LIMITS, status=1 << 8, full="disk"),
    "shm full": StepFacts(LIMITS, status=1 << 8, full="shm"),
    "inodes used up": StepFacts(LIMITS, status=1 << 8, full="inodes"),
    "no space in words": StepFacts(LIMITS, status=1 << 8, last_output="No space left on device"),
    "files in words": StepFacts(LIMITS, status=1 << 8, last_output="Too many open files"),
    "output cut": StepFacts(LIMITS, status=0, excess=7),
}
"""Facts of each kind of limit."""

_API_NAME = re.compile(r"(?<![\w.])(?:limits|options|resources|resource_opts|config)\.\w+")


def advices() -> dict[str, str]:
    """The advice of the shim for each kind."""
    return {kind: judge(facts).advice for kind, facts in FACTS.items()} | {
        "memory before the step": advice.NO_MEMORY_LEFT.format("1 GiB")
    }


@each_case("kind", advices())
@each_case("name", ["clean", "build", "exec"])
def test_command_line_is_advised_options_that_it_has(kind: str, name: StepName) -> None:
    session = {"disk": 1 << 24}
    text = worded(advices()[kind], "sandboxd/1", step(name), session)
    assert not _API_NAME.search(text), text
    for line in re.findall(r"ask for more with (--.*?)(?:,|;|$)", text):
        words = line.replace("SECONDS", "5").replace("SIZE", "1g").replace("=N", "=9").split()
        args = parser().parse_args(["run", ".", *words])
        assert any((args.timeout, args.mem, args.limit)), line
        if args.timeout:
            assert name == "exec", "--timeout is a limit of exec"


@each_case("kind", advices())
def test_official_client_is_advised_options_that_it_has(kind: str) -> None:
    text = worded(advices()[kind], OFFICIAL, step(), {"disk": 1 << 24})
    assert not _API_NAME.search(text), text
    for line in re.findall(r"ask for more with (.*?)(?:,|;|$)", text):
        allowed = r"(-r mem=MIB|--resource-opts \w+=(SECONDS|SIZE|N)) in a new session"
        assert re.fullmatch(allowed, line), line


@each_case("kind", advices())
def test_other_clients_are_advised_the_full_name_of_the_parameter(
    http: httpx.Client, kind: str
) -> None:
    """Each name is taken by the server, in a request that has it."""
    text = worded(advices()[kind], "curl/8", step("build"), {"disk": 1 << 24})
    for name, new in re.findall(r"ask for more with ([\w.]+)( in a new session)?", text):
        where, _, key = name.rpartition(".")
        value = {"shmem": "1m", "mem": "64m", "disk": "32m", "fsize": "1m", "output": "1m"}.get(
            key, 50
        )
        if new:
            part = where.removeprefix("config.")
            body: dict[str, Any] = {"image": "c", "config": {part: {key: value}}}
            assert http.post("/session", json=body).status_code == 201, name
        else:
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            assert where == "options.limits.build"
            body = {"mode": "batch", "options": {"limits": {"build": {key: value}}}}
            assert http.post(f"/session/{id}", json=body).status_code == 200, name


def test_time_limit_of_exec_is_the_option_timeout() -> None:
    text = advices()["ended by wall_s"]
    assert "ask for more with --timeout SECONDS, or look" in worded(text, "sandboxd/1")
    assert "ask for more with options.timeout, or look" in worded(text, "curl/8")
    build = worded(text, "sandboxd/1", step("build"))
    assert "ask for more with --limit wall_s=SECONDS, or look" in build


def test_limit_that_the_session_has_set_is_raised_in_a_new_session() -> None:
    """A run may not exceed the resources of its session."""
    text, session = advices()["ended by wall_s"], {"wall_s": 5}
    assert "more with config.resource_opts.wall_s in a new session" in worded(
        text, "curl/8", session=session
    )
    assert "more with --limit wall_s=SECONDS" in worded(text, "sandboxd/1", session=session)


def test_limit_as_high_as_the_server_allows_has_no_name() -> None:
    most = step(wall_s=Config().ceiling.wall_s)
    for agent in ("sandboxd/1", OFFICIAL, "curl/8"):
        text = worded(advices()["ended by wall_s"], agent, most)
        assert NO_MORE in text and "ask for more" not in text
        assert NO_MORE in worded(advices()["disk full"], agent), "a scratch of the greatest size"


def test_missing_command_of_a_step_is_the_option_of_the_step() -> None:
    text = 'exec "*" found none; upload one, or name a command with options.exec'
    assert worded(text, "sandboxd/1").endswith("name a command with --exec")
    assert worded(text, OFFICIAL).endswith("name a command with --exec")
    assert worded(text, "curl/8") == text


def test_program_that_writes_the_words_of_an_advice_keeps_them() -> None:
    """Only the messages of sandboxd are worded; the output of a program is not changed."""
    items: list[Any] = [
        ["stdout", "ask for more with options.timeout"],
        ["log", ["warning", "now", "sandboxd", "ask for more with limits.pids"]],
    ]
    wording = Wording(Reader.COMMAND_LINE, Config())
    assert wording.console(items, step(), {}) == [
        items[0], ["log", ["warning", "now", "sandboxd", "ask for more with --limit pids=N"]]
    ]  # fmt: skip
    assert worded("ask for more with limits.nonsense", "sandboxd/1").endswith("limits.nonsense")
