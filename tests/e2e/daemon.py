"""A real daemon, started as an operator would, and a client for its API."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from sandboxd.warden.runs.cgroups import own_name

from ..http_clients import network_client
from ..waiting import PATIENCE_S, Patience

OURS = "e2e-"
"""The beginning of the names of these tests' directories."""
ROOT = Path(__file__).parents[2]
COUNT = 64
SLOTS = f"[slots]\nfirst_uid = FIRST_UID\ncount = {COUNT}\n"


def first_uid() -> int:
    """The first uid of this process's daemons; other tests have others, as processes fork."""
    return 730000 + os.getpid() % 1000 * 128


def configured(config: str) -> str:
    """A configuration, with the number that SLOTS leaves open."""
    return config.replace("FIRST_UID", str(first_uid()))


def environ() -> dict[str, str]:
    """The environment of a command of sandboxd, whose private daemon is this process's own."""
    return {
        "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin", "LANG": "C.UTF-8",
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
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def end(self, victim: str) -> None:
        """End it by SIGKILL of its `victim`: warden, api, both; or by SIGTERM: neither."""
        assert self.process and self.process.stdout
        api, warden = self.api, self.process.pid
        if victim == "neither":
            assert self.stop() == 0
            return
        for pid in {"warden": [warden], "api": [api], "both": [api, warden]}[victim]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
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


def leaks() -> set[str]:
    """Mounts, cgroups, processes and private directories of sandboxd that these tests have made.

    Other daemons of the machine, and what other tests under way have made, are left out.
    """
    top = tempfile.gettempdir()
    there = {line for line in Path("/proc/mounts").read_text().splitlines() if f"{top}/" in line}
    titles = process_titles()
    there.update(
        f"{pid} {title}" for pid, title in titles.items()
        if _is_ours(pid) and not _is_in_pool(pid, titles)
    )  # fmt: skip
    there.update(glob.glob(f"{top}/sandboxd-????????"))
    return there | _groups()


def _is_in_pool(pid: int, titles: dict[int, str]) -> bool:
    """The process waits for runs of a daemon that lives; others follow it at any time."""
    waits = titles[pid] in ("sandboxd: prepared", "sandboxd: spawner", "sandboxd: jobs")
    return waits and any(titles.get(one) == "sandboxd: warden" for one in ancestors(pid))


SETTLE_S = 60.0
_of_before: set[str] = set()
"""Cgroups without an owner that were there before, and stay."""


def _groups() -> set[str]:
    """The cgroups of daemons, but for those whose daemon is somebody else's and lives.

    A group names its owner by a hash only. One that has no living owner may belong to another's
    daemon that begins or ends just now, so it gets a moment to go.
    """
    deadline = time.monotonic() + SETTLE_S
    while True:
        others, own = _state_directories()
        there = {
            f"{top}/{name}"
            for top, directories, _ in os.walk("/sys/fs/cgroup")
            for name in directories
            # the warden of the tests themselves has names with "test", and they share it
            if name.startswith("sandboxd-") and "test" not in name and name not in others
        }
        ownerless = {path for path in there if os.path.basename(path) not in own} - _of_before
        if not ownerless:
            return there
        if time.monotonic() > deadline:
            _of_before.update(ownerless)
            return there
        time.sleep(0.1)


def _state_directories() -> tuple[set[str], set[str]]:
    """The names of the cgroups of living daemons and shims: first those of other test runs and of
    services, then those of this test run."""
    names: tuple[set[str], set[str]] = set(), set()
    for pid in process_titles():
        names[_is_ours(pid)].update(own_name(path) for path in _states(pid))
    return names


def _states(pid: int) -> set[str]:
    """The state directory of a process of sandboxd, by the files that it has open."""
    parts = (link.partition(mark) for link in _files(pid) for mark in ("/slots/", "/api/", "/lock"))
    return {before for before, mark, _ in parts if mark}


def _is_ours(pid: int) -> bool:
    """This test run has started the process, itself or by a daemon that is gone now: the process
    has a uid or a file of this test run."""
    family = {pid, *ancestors(pid)} - {1}
    return os.getpid() in family or any(_has_our_uid(one) or _has_our_files(one) for one in family)


def _has_our_uid(pid: int) -> bool:
    try:
        uid = int(Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[0])
    except OSError:
        return False
    return first_uid() - 1 <= uid < first_uid() + COUNT  # the one below the slots' is the api's


def _has_our_files(pid: int) -> bool:
    return any(link.startswith(f"{tempfile.gettempdir()}/") for link in _files(pid))


def _files(pid: int) -> list[str]:
    """The files that a process has open; none when it is gone."""
    try:
        top = os.readlink(f"/proc/{pid}/root").rstrip("/")  # its own root may be another
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
    return [link.removeprefix(top) if link.startswith(f"{top}/") else link for link in links]


def process_titles() -> dict[int, str]:
    """Pid -> title of every process that calls itself sandboxd's."""
    titles = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().rstrip(b"\0").decode(errors="replace")
        except OSError:
            continue
        if text.startswith("sandboxd: "):
            titles[int(path.parent.name)] = text
    return titles


def ancestors(pid: int) -> list[int]:
    """The parents of a process, nearest first."""
    parents = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        parents.append(pid)
    return parents


def run(http: httpx.Client, session: str, options: dict[str, Any], run_id: str = "") -> Outcome:
    """A batch run, polled to its end as the SDKs do."""
    call: dict[str, Any] = {"mode": "batch", "code": "", "options": options}
    if run_id:
        call["runId"] = run_id
    return follow(http, session, call)


def follow(http: httpx.Client, session: str, call: dict[str, Any]) -> Outcome:
    """All answers from that to `call` to the last."""
    outcome = Outcome()
    patience = Patience("the run does not end", 120)
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
