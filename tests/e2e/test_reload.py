"""A real daemon that gets the signals to read its configuration again, to drain, and to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..processes import children
from ..users import ALICE, client_of
from ..waiting import PATIENCE_S, until
from .conftest import passable
from .daemon import SLOTS, Daemon, configured, run, slots_in_use


class Kept(Daemon):
    """A daemon whose log can be read and whose configuration can be changed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.errors = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.first = (folder / "config.toml").read_text()
        self.begin = 0  # where the log of the test begins

    def log(self) -> str:
        """The daemon's log since the test began."""
        return (self.folder / "log").read_bytes()[self.begin :].decode()

    def reload(self, config: str) -> None:
        """Give it another configuration."""
        self.take(configured(f'metrics = ""\n{config}\n{SLOTS}'))

    def take(self, text: str) -> None:
        """Let it read `text` as its configuration."""
        seen = self.settled()
        (self.folder / "config.toml").write_text(text)
        assert self.process
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.settled() > seen)

    def has_children(self) -> bool:
        """It has begun to try what this host can do."""
        return bool(self.process and children(self.process.pid))

    def settled(self) -> int:
        """How often it has refused a configuration, or gone over to one in both halves."""
        return self.log().count("config.refused") + self.log().count("config.in-use")


@contextlib.contextmanager
def logging_daemon(socket: str = "") -> Iterator[Kept]:
    """A daemon that ends without an error; `socket` is one more in its folder to listen on."""
    with passable() as folder:
        daemon = Kept(folder)
        daemon.start(*(["--listen", f"unix:{folder}/{socket}"] if socket else []))
        try:
            yield daemon
        finally:
            status = daemon.stop() if daemon.process else 0
            assert daemon.errors is not None
            os.close(daemon.errors)
        daemon.begin = 0
        assert status == 0 and "Traceback" not in daemon.log()


@pytest.fixture(scope="module")
def of_the_module() -> Iterator[Kept]:
    with logging_daemon() as daemon:
        yield daemon


@pytest.fixture
def daemon(of_the_module: Kept) -> Iterator[Kept]:
    """A daemon that serves with its first configuration, and has no session of another test."""
    daemon = of_the_module
    if daemon.process is None:
        (daemon.folder / "config.toml").write_text(daemon.first)
        daemon.start()
    elif (daemon.folder / "config.toml").read_text() != daemon.first:
        daemon.take(daemon.first)
    daemon.begin = (daemon.folder / "log").stat().st_size
    yield daemon
    daemon.purge()
    until(lambda: not slots_in_use(daemon.state))


def test_what_may_change_changes_without_a_restart(daemon: Kept) -> None:
    with daemon.client() as http:
        id = http.post("/session", json={"image": "bash"}).json()["sessionId"]
        daemon.reload(
            "rate_limit = 7\n[limits.exec]\nmemory = 134217728\n[admission.owner]\nsessions = 1\n"
            '[runtimes.mine]\ntools = ["sh"]\nexec = "echo mine"\n'
        )
        assert http.post("/session", json={"image": "bash"}).status_code == 412
        assert http.get(f"/session/{id}").json()["sandbox"]["limits"]["memory"] == 134217728
        outcome = run(http, id, {"exec": "cat /proc/self/limits > /dev/null; echo on"})
        assert outcome.text("stdout") == "on\n"
        daemon.reload('[runtimes.mine]\ntools = ["sh"]\nexec = "echo mine"')
        mine = http.post("/session", json={"image": "mine"}).json()["sessionId"]
        assert run(http, mine, {"exec": "*"}).text("stdout") == "mine\n"
    assert "changed=" in daemon.log() and "admission.owner.sessions" in daemon.log()


@pytest.mark.root
def test_groups_of_admins_change_without_a_restart_and_an_unknown_one_is_refused() -> None:
    with logging_daemon(f"ci.sock?group={ALICE}") as daemon:
        path = f"{daemon.folder}/ci.sock"
        statuses = []
        for groups in ("", f'"{ALICE}"', '"no-such-group"', '"root"'):
            daemon.reload(f"admin_groups = [{groups}]")
            with client_of(path, ALICE) as alice:
                statuses.append(alice.get("/admin/drain").status_code)
        assert statuses == [403, 200, 200, 403]
        assert "this host has no group 'no-such-group'" in daemon.log()


def test_hangup_during_the_start_does_not_end_it(daemon: Kept) -> None:
    assert daemon.stop() == 0

    def hang_up() -> None:
        while (process := daemon.process) is None or not daemon.has_children():
            time.sleep(0.001)
        process.send_signal(signal.SIGHUP)

    early = threading.Thread(target=hang_up)
    early.start()
    daemon.start()  # this fails if the daemon does not become ready
    early.join()


def test_ceiling_that_was_lowered_holds_in_both_halves(daemon: Kept) -> None:
    with daemon.client() as http:
        id = http.post("/session", json={"image": "bash"}).json()["sessionId"]
        daemon.reload("[ceiling]\npids = 16\n[limits.exec]\npids = 16\n[limits.build]\npids = 16\n"
                      "[limits.clean]\npids = 16")  # fmt: skip
        options = {"exec": "echo on", "limits": {"exec": {"pids": 500}}}
        outcome = run(http, id, options)
        assert outcome.results[-1]["clamped"] and outcome.text("stdout") == "on\n"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("[limits\n", "not valid TOML"),
        ("limit = 3", "unknown key limit"),
        ("[console]\nhead = -1", "console"),
        ("[limits.exec]\nwall_s = 1e9", "above ceiling"),
    ],
)
def test_bad_configuration_is_refused_and_the_old_one_stays(
    daemon: Kept, bad: str, why: str
) -> None:
    with daemon.client() as http:
        daemon.reload("[admission.owner]\nsessions = 1")
        daemon.reload(bad)
        assert "config.refused" in daemon.log() and why in daemon.log()
        assert http.post("/session", json={"image": "bash"}).status_code == 201
        assert http.post("/session", json={"image": "bash"}).status_code == 412, "as it was"


def test_missing_file_is_refused(daemon: Kept) -> None:
    os.unlink(daemon.folder / "config.toml")
    assert daemon.process
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "config.refused" in daemon.log())
    with daemon.client() as http:
        assert http.get("/").status_code == 200
    (daemon.folder / "config.toml").write_text(daemon.first)


def test_what_needs_a_restart_is_named_and_stays(daemon: Kept) -> None:
    daemon.reload('[scratch]\nkind = "tmpfs"\nsize = 33554432\n[console]\nhead = 1048576')
    assert 'after_restart="console.head scratch.kind"' in daemon.log()
    with daemon.client() as http:
        id = http.post("/session", json={"image": "bash"}).json()["sessionId"]
        assert http.get(f"/session/{id}").json()["sandbox"]["scratch"]["size"] == 33554432
        outcome = run(http, id, {"exec": "head -c 2000000 /dev/zero | tr '\\0' x"})
        assert len(outcome.text("stdout")) >= 524288
        shown = run(http, id, {"exec": "df -T /home/work | tail -1"}).text("stdout")
    assert "ext4" in shown, shown


def test_drain_ends_what_ignores_sigterm(daemon: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    with daemon.client() as http:
        polite, deaf = (
            http.post("/session", json={"image": "bash"}).json()["sessionId"] for _ in range(2)
        )
        for id, command in (
            (polite, "trap 'echo bye; exit 3' TERM"), (deaf, "trap '' TERM"),
        ):  # fmt: skip
            program = f"{command}; echo up; while :; do sleep 0.1; done"
            options = {"exec": program, "timeout": 600}
            call = {"mode": "batch", "code": "", "runId": "r", "options": options}
            while not http.post(f"/session/{id}", json=call).json()["result"]["console"]:
                call = {"mode": "continue", "code": "", "runId": "r"}
        began = time.monotonic()
        assert http.post("/admin/drain", json={"deadline": 0.5}).json()["running"] == 2
        last: dict[str, dict[str, Any]] = {}
        for id in (polite, deaf):
            result: dict[str, Any] = {"status": ""}
            while result["status"] != "finished":
                call = {"mode": "continue", "code": "", "runId": "r"}
                result = http.post(f"/session/{id}", json=call).json()["result"]
            last[id] = result
        assert last[polite]["exitCode"] == 3
        assert last[deaf]["exitCode"] == 137 and time.monotonic() - began > 8
        verdict = last[deaf]["verdict"]
        assert (verdict["signal"], verdict["sent_by"]) == ("SIGKILL", "sandboxd")
        assert "being drained" in verdict["advice"]
        until(lambda: bool(http.get("/admin/drain").json()["drained"]))
        assert http.post("/session", json={"image": "bash"}).status_code == 503
        assert not http.post("/admin/drain", json={"undo": True}).json()["draining"]


def test_stop_waits_for_what_runs_if_configured(daemon: Kept) -> None:
    daemon.reload('[stop]\nruns = "drain"\ngrace_s = 600')
    with daemon.client() as http:
        id = http.post("/session", json={"image": "bash"}).json()["sessionId"]
        call = {"mode": "batch", "code": "", "runId": "r", "options": {"exec": "sleep 3; echo on"}}
        http.post(f"/session/{id}", json=call)
        assert daemon.process
        daemon.process.send_signal(signal.SIGTERM)
        text = ""
        result: dict[str, Any] = {"status": ""}
        while result["status"] != "finished":
            call = {"mode": "continue", "code": "", "runId": "r"}
            result = http.post(f"/session/{id}", json=call).json()["result"]
            text += "".join(data for kind, data in result["console"] if kind == "stdout")
        assert text == "on\n" and result["exitCode"] == 0
    assert daemon.process.wait(PATIENCE_S) == 0
    assert daemon.process.stdout
    daemon.process.stdout.close()
    daemon.process = None


def test_run_that_waits_for_its_turn_waits_on_over_a_restart(daemon: Kept) -> None:
    daemon.reload("[admission]\nruns = 1")
    with daemon.client() as http:
        first, second = (
            http.post("/session", json={"image": "bash"}).json()["sessionId"] for _ in range(2)
        )
        for id, command in ((first, "sleep 600"), (second, "echo on")):
            for mode in ("batch", "continue", "continue"):
                options = {"exec": command, "timeout": 600} if mode == "batch" else {}
                call = {"mode": mode, "code": "", "runId": "r", "options": options}
                result = http.post(f"/session/{id}", json=call).json()["result"]
        assert result["queue"]["position"] == 1
    assert daemon.stop() == 0
    daemon.start()
    with daemon.client() as http:
        call = {"mode": "continue", "code": "", "runId": "r"}
        again = http.post(f"/session/{second}", json=call).json()["result"]
        assert again.get("queue") == result["queue"], "the other has its place still"
        http.post(f"/session/{first}/interrupt")
        while again["status"] != "finished":
            again = http.post(f"/session/{second}", json=call).json()["result"]
        assert again["exitCode"] == 0
        http.delete(f"/session/{first}")
        http.delete(f"/session/{second}")
