"""A real daemon, started as an operator would, and a client for its API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from sandboxd.warden import memory_files

from ..http_clients import GUARD_S, network_client
from ..processes import children, title
from ..waiting import PATIENCE_S, Patience, until
from .own_leaks import COUNT, first_uid, leaks

OURS = "e2e-"
"""How directories of these tests begin, below the temporary directory of this process."""

ROOT = Path(__file__).parent.parent.parent
SLOTS = f"[slots]\nfirst_uid = FIRST_UID\ncount = {COUNT}\n"


def configured(config: str) -> str:
    """A configuration, with the number that SLOTS leaves open."""
    return config.replace("FIRST_UID", str(first_uid()))


def environ() -> dict[str, str]:
    """The environment of a command of sandboxd, whose private daemon is this process's own."""
    return {
        "PYTHONPATH": f"{ROOT}:{ROOT}/tests/e2e/production", "PATH": "/usr/bin:/bin:/usr/sbin",
        "LANG": "C.UTF-8",
        "TMPDIR": tempfile.gettempdir(),
    }  # fmt: skip


class Daemon:
    """`sandboxd serve` on a loopback port, and what the host had before it."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.state = folder / "state"
        if "metrics = " not in config:  # the default is for one daemon of a host
            config = f'metrics = ""\n{config}'
        if "[slots]" not in config:
            config = f"{config}\n{SLOTS}"
        if "spares = " not in config:  # tests know slots by number and count their directories
            before, _, after = config.partition("[scratch]\n")
            config = f"{before.rstrip()}\n[scratch]\nspares = 0\n{after}"
        if "[runs]" not in config and os.environ.get("SANDBOXD_TEST_ENTRIES") == "0":
            config = f"{config}\n[runs]\nprepared = 0\nwarm_s = 0\n"
        (folder / "config.toml").write_text(configured(config))
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        self.environ["SECRET"] = "of-the-daemon"
        self.errors: int | None = None  # where its log goes; None: to the test's own
        self.prefix: list[str] = []  # a command that becomes the daemon

    def start(self, *options: str) -> None:
        """Start it and wait for its line; one that does not become ready has ended."""
        listen = ["--listen", "127.0.0.1:0", "--listen", f"unix:{self.folder}/api.sock"]
        command = [sys.executable, "-P", "-m", "sandboxd", "serve", *listen, "--auth", "none"]
        command += ["--state-dir", str(self.state), "--config", str(self.folder / "config.toml")]
        self.process = subprocess.Popen(
            [*self.prefix, *command, *options],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.startswith("sandboxd: ready on "):
            status = self.process.wait(PATIENCE_S)
            self.process.stdout.close()
            self.process = None
            raise AssertionError(f"not ready: {line!r}, exit status {status}")
        self.url = "http://" + line.split()[3].rstrip(",")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; its exit status."""
        assert self.process and self.process.stdout
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        self.process = None
        return status

    @property
    def api(self) -> int:
        """Pid of its unprivileged half."""
        assert self.process
        return next(iter(children(self.process.pid, "sandboxd: api")))

    def mounts(self) -> list[str]:
        """Its mounts that this process sees."""
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [line for line in lines if str(self.folder) in line]

    def end(self, victim: str) -> None:
        """End it by SIGKILL of its `victim`: warden, api, both; or by SIGTERM: neither. Both halves
        have ended afterwards."""
        assert self.process and self.process.stdout
        api, warden = self.api, self.process.pid
        if victim == "neither":
            assert self.stop() == 0
            return
        for pid in {"warden": [warden], "api": [api], "both": [api, warden]}[victim]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        until(lambda: not title(api))  # it sees the end of a warden, and has works to finish
        self.process.stdout.close()
        self.process = None

    def purge(self) -> None:
        """Delete every session that it has; nothing of it is left then but its state."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        with self.client() as http:
            for session in sessions_of(self.state).values():
                http.delete(f"/session/{session}")

    def client(self) -> httpx.Client:
        """An HTTP client of it."""
        return network_client(self.url)


def file_of(directory: Path, name: str) -> Path:
    """A file of the run with this directory; its control socket may be in memory."""
    memory = memory_files.path_of(str(directory), memory_files.CONTROL)
    return Path(memory) if memory and name == "control" else directory / name


def sessions_of(state: Path) -> dict[str, str]:
    """Slot -> session, by the files below the state directory. A spare has a blank name."""
    return {slot: name for slot, name in _names(state).items() if name.strip()}


def slots_in_use(state: Path) -> list[str]:
    """The slots that have a directory, without the spares that are complete."""
    blank = {slot for slot, name in _names(state).items() if not name.strip()}
    return sorted(set(os.listdir(state / "slots")) - blank)


def _names(state: Path) -> dict[str, str]:
    names = {}
    for path in state.glob("slots/*/session"):
        with suppress(FileNotFoundError):  # the daemon has just removed it
            names[path.parent.name] = path.read_text()
    return names


@contextmanager
def running(
    folder: Path, config: str = "", prefix: Sequence[str] = (), variables: Mapping[str, str] = {}
) -> Iterator[Daemon]:
    """A daemon for the time of a `with`, which the command `prefix` starts, with more `variables`;
    afterwards the host is as it was."""
    before = leaks()
    daemon = Daemon(folder, config)
    daemon.prefix += prefix
    daemon.environ |= variables
    daemon.start()
    try:
        yield daemon
    except BaseException:  # an interrupted test, too, leaves nothing; raised again
        daemon.purge()
        raise
    finally:
        if daemon.process:
            assert daemon.stop() == 0
        after = leaks()
        assert after <= before, after - before


def run(http: httpx.Client, session: str, options: dict[str, Any], run_id: str = "") -> Outcome:
    """A batch run, polled to its end as the SDKs do."""
    call: dict[str, Any] = {"mode": "batch", "code": "", "options": options}
    if run_id:
        call["runId"] = run_id
    return follow(http, session, call)


def follow(http: httpx.Client, session: str, call: dict[str, Any]) -> Outcome:
    """All answers from that to `call` to the last."""
    outcome = Outcome()
    patience = Patience("the run does not end", GUARD_S)
    while True:
        answer = http.post(f"/session/{session}", json=call)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        outcome.add(result)
        if result["status"] in ("finished", "exec-timeout"):
            return outcome
        patience.pause(0)
        call = {"mode": "continue", "code": "", "runId": result["runId"]}


class Outcome:
    """All answers of a run together."""

    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []

    def add(self, result: dict[str, Any]) -> None:
        """The next answer."""
        self.results.append(result)

    def text(self, kind: str) -> str:
        """The text of the console items of `kind`."""
        return "".join(
            data if isinstance(data, str) else f"{data[3]}\n"
            for result in self.results
            for type_, data in result["console"]
            if type_ == kind
        )

    @property
    def statuses(self) -> list[str]:
        """The statuses, without the repeated `continued`."""
        return [r["status"] for r in self.results if r["status"] != "continued"]

    @property
    def exits(self) -> list[int | None]:
        """Exit codes of the steps, in order."""
        return [r["exitCode"] for r in self.results if r["status"] != "continued"]
