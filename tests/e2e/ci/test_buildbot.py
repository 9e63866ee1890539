"""A real master and worker of Buildbot, with the step SandboxedShellCommand."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from ...http_clients import network_client
from ...users import ROOT
from ...waiting import until
from .conftest import programs
from .documentation import block
from .user import CiUser, kill

pytestmark = pytest.mark.world

BUILDERS = {
    "documentation": [],
    "workspace": [
        ("stat -c %U Makefile; ./main data/*.txt > report.txt",
         {"build": "make", "workspace": True}),
    ],
    "failure": [("echo before; exit 7", {})],
    "build-failure": [("true", {"build": "make nothing-such"})],
    "endless": [("echo up; setsid sleep 300 & sleep 300", {})],
    "grace": [("trap 'echo saved; exit 9' TERM; echo up; sleep 300 & wait", {})],
    "slow": [("echo up; sleep 300", {"options": ["--timeout", "1"]})],
    "silent": [("echo up; sleep 300", {"timeout": 2})],
    "cached": [
        ("if [ -e cache/x ]; then echo hit; else echo miss; echo > cache/x; fi",
         {"options": ["--folder", "cache"]}),
    ],
}  # fmt: skip
"""Name -> the steps of a builder: the command, and further arguments; none: that of docs/ci.md."""

MASTER = """
import sys
sys.path.append({root!r})  # where sandboxd is installed
from buildbot.plugins import schedulers, steps, util, worker
from sandboxd.ci.buildbot_step import SandboxedShellCommand

def factory(commands):
    one = util.BuildFactory()
    one.addStep(steps.Git(repourl={repository!r}, mode="full", method="clobber", branch="main"))
    for command, arguments in commands:
        one.addStep(SandboxedShellCommand(command, image="c", **arguments))
    if not commands:
        exec({documentation!r}, {{"factory": one}})
    return one

builders = {builders!r}
c = BuildmasterConfig = {{}}
c["workers"] = [worker.Worker("one", "of-the-test")]
c["protocols"] = {{"pb": {{"port": "tcp:{pb}:interface=127.0.0.1"}}}}
c["builders"] = [
    util.BuilderConfig(name=name, workernames=["one"], factory=factory(commands))
    for name, commands in builders.items()
]
c["schedulers"] = [
    schedulers.ForceScheduler(name="force-" + name, builderNames=[name]) for name in builders
]
c["db"] = {{"db_url": "sqlite:///state.sqlite"}}
c["www"] = {{"port": "tcp:{www}:interface=127.0.0.1", "plugins": {{}}}}
c["buildbotURL"] = "http://127.0.0.1:{www}/"
c["buildbotNetUsageData"] = None
"""

TAC = """
from twisted.application import service
from buildbot_worker.bot import Worker
application = service.Application("worker")
one = Worker("127.0.0.1", {pb}, "one", "of-the-test", {basedir!r}, keepalive=60)
one.setServiceParent(application)
"""


def ports() -> tuple[int, int]:
    """Two free ports of the loopback."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        return one.getsockname()[1], other.getsockname()[1]


class Buildbot:
    """The master and the worker of the user."""

    def __init__(self, user: CiUser, repository: Path) -> None:
        self.user = user
        user.paths.append(programs("buildbot", "Python"))
        pb, www = ports()
        master, self.basedir = user.home / "master", user.home / "worker"
        self._ok(["buildbot", "create-master", "-q", str(master)])
        config = MASTER.format(
            root=str(ROOT), repository=str(repository), builders=BUILDERS, pb=pb, www=www,
            documentation=block("Buildbot", "python"),
        )  # fmt: skip
        (master / "master.cfg").write_text(config)
        self._ok(["mkdir", str(self.basedir)])
        (self.basedir / "buildbot.tac").write_text(TAC.format(pb=pb, basedir=str(self.basedir)))
        # plain: once in a while the master says gzip of a body that is not
        plain = {"Accept-Encoding": "identity"}
        self.http = network_client(f"http://127.0.0.1:{www}/api/v2", headers=plain)
        # to a file: a pipe that nobody reads would fill up and stop them
        log = user.home / "buildbot.log"
        self.log_file = log
        self.master = user.begin(["buildbot", "start", "--nodaemon", str(master)], user.home, log)
        self.worker = user.begin(
            ["twistd", "--nodaemon", "--no_save", "--pidfile=", "-y", "buildbot.tac"],
            self.basedir, log,
        )  # fmt: skip
        until(self._is_ready, 60)

    def _ok(self, command: Sequence[str]) -> None:
        status, output = self.user.call(command, self.user.home)
        assert status == 0, output

    def _is_ready(self) -> bool:
        assert self.master.poll() is None, self.log_file.read_text()
        try:
            (worker,) = self.get("/workers")["workers"]
        except (httpx.TransportError, ValueError):
            return False
        return bool(worker["connected_to"])

    def get(self, path: str) -> Any:
        """The JSON of a path of the master's API."""
        return self.http.get(path).json()

    def post(self, path: str, method: str, **params: Any) -> Any:
        """Call a method of an object of the API, as the buttons of the page do."""
        body = {"id": 1, "jsonrpc": "2.0", "method": method, "params": params}
        answer = self.http.post(path, content=json.dumps(body), headers={
            "Content-Type": "application/json", "Origin": str(self.http.base_url).split("/api")[0],
        })  # fmt: skip
        assert answer.status_code == 200, answer.text
        return answer.json()

    def force(self, builder: str) -> int:
        """Force a build; its id."""
        (buildset, _) = self.post(f"/forceschedulers/force-{builder}", "force")["result"]
        (request,) = self.get(f"/buildrequests?buildsetid__eq={buildset}")["buildrequests"]
        path = f"/builds?buildrequestid__eq={request['buildrequestid']}"
        builds = until(lambda: self.get(path)["builds"])
        return int(builds[0]["buildid"])

    def begun(self, builder: str) -> int:
        """Force a build whose command says that it is up; its id."""
        build = self.force(builder)
        until(lambda: "up\n" in self.log(build))  # the log is live
        return build

    def step(self, build: int) -> dict[str, Any]:
        """The step in the sandbox, of a build that has come so far."""
        steps = self.get(f"/builds/{build}/steps")["steps"]
        return dict(steps[-1]) if len(steps) > 1 else {}

    def log(self, build: int) -> str:
        """The text of that step's log, up to now."""
        step = self.step(build)
        logs = self.get(f"/steps/{step['stepid']}/logs")["logs"] if step else []
        chunks = self.get(f"/logs/{logs[0]['logid']}/contents")["logchunks"] if logs else []
        return re.sub(r"(?m)^[oehs]", "", "".join(chunk["content"] for chunk in chunks))

    def end(self, build: int) -> tuple[int, str]:
        """The result of a build that is awaited, and the log of its step."""
        until(lambda: self.get(f"/builds/{build}")["builds"][0]["complete"], 90)
        return int(self.step(build)["results"]), self.log(build)


@pytest.fixture
def buildbot(user: CiUser, wordcount: Path) -> Iterator[Buildbot]:
    one = Buildbot(user, wordcount)
    yield one
    one.http.close()


SUCCESS, FAILURE, CANCELLED = 0, 2, 6


def test_builds_succeed_fail_and_are_bounded_and_stopped(buildbot: Buildbot) -> None:
    """One master for all, since it takes seconds to start."""
    result, log = buildbot.end(buildbot.force("documentation"))
    assert (result, "cc -O2" in log) == (SUCCESS, True), log
    reports = list(buildbot.basedir.glob("*/build/report.txt"))
    assert [path.stat().st_uid for path in reports] == [61011]
    assert "words" in reports[0].read_text()
    result, log = buildbot.end(buildbot.force("workspace"))
    assert (result, "work\n" in log) == (SUCCESS, True), log
    assert len(list(buildbot.basedir.glob("*/build/report.txt"))) == 2
    result, log = buildbot.end(buildbot.force("failure"))
    assert (result, "before" in log) == (FAILURE, True)
    assert "program finished with exit code 7" in log
    result, log = buildbot.end(buildbot.force("build-failure"))
    assert result == FAILURE and "No rule to make target" in log
    result, log = buildbot.end(buildbot.force("slow"))
    assert result == FAILURE and "exit code 124" in log, log
    buildbot.user.nothing_left()


def test_button_that_stops_a_build_ends_its_session_after_the_grace(buildbot: Buildbot) -> None:
    for builder, last in (("endless", "up"), ("grace", "saved")):
        build = buildbot.begun(builder)
        buildbot.post(f"/builds/{build}", "stop", reason="of the test")
        result, log = buildbot.end(build)
        assert (result, f"{last}\n" in log) == (CANCELLED, True), log
        buildbot.user.nothing_left()
    result, log = buildbot.end(buildbot.force("silent"))
    assert result != SUCCESS and "timed out" in log
    buildbot.user.nothing_left()


def test_cache_is_there_in_the_next_build(buildbot: Buildbot) -> None:
    user = buildbot.user
    assert user.call(["sandboxd", "folder", "create", "cache", "--size", "64m"], user.home)[0] == 0
    assert "miss\n" in buildbot.end(buildbot.force("cached"))[1]
    assert "hit\n" in buildbot.end(buildbot.force("cached"))[1]
    assert user.call(["sandboxd", "folder", "rm", "cache"], user.home)[0] == 0


@pytest.mark.parametrize("victim", ["-m sandboxd run", ""])
def test_kill_of_the_worker_or_of_its_command_leaves_nothing(
    buildbot: Buildbot, victim: str
) -> None:
    buildbot.begun("endless")
    kill(buildbot.worker, victim)
    buildbot.user.nothing_left()


def test_killed_worker_alone_ends_the_session_of_its_command(buildbot: Buildbot) -> None:
    buildbot.begun("endless")
    buildbot.worker.send_signal(signal.SIGKILL)
    buildbot.user.nothing_left()
